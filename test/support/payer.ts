/**
 * A payer that signs whatever a test tells it to, good or bad. Built on `src/voucher` and `src/protocol` alone: the
 * product's own client would refuse most of it.
 */
import { randomBytes } from "node:crypto";
import { type Address, encodeFunctionData, type Hex, type LocalAccount, type PublicClient } from "viem";
import { approveCall, type Call, openCall } from "../../src/escrow/calls.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { type Challenge, encodeBase64url, formatSource, parseTimestamp, toWire } from "../../src/protocol/index.ts";
import {
	type Authorization,
	type ChannelParameters,
	chargeNonce,
	computeChannelId,
	createVoucherDomain,
	openAuthorizationNonce,
	signAuthorization,
	signVoucher,
	type TokenDomain,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import { mined } from "./mined.ts";

/** A credential in wire form before it is encoded: a plain object, every field there to be replaced. */
export type Draft = Readonly<{ challenge: Challenge; payload: Readonly<Record<string, unknown>>; source?: string }>;

/** The `Authorization` value of a draft, or of anything else that is no draft at all. */
export function encode(draft: unknown): string {
	return `Payment ${encodeBase64url(JSON.stringify(draft))}`;
}

/** A draft with some members of its payload replaced; `undefined` leaves one out. */
export function withPayload(draft: Draft, members: Readonly<Record<string, unknown>>): Draft {
	return { ...draft, payload: { ...draft.payload, ...members } };
}

/** A draft with some parameters of its challenge replaced; `undefined` leaves one out. */
export function withChallenge(draft: Draft, members: Readonly<Record<string, unknown>>): Draft {
	return { ...draft, challenge: { ...draft.challenge, ...members } as Challenge };
}

/** A channel as its payer knows it, whether it is open or not. */
export type TestChannel = ChannelParameters & Readonly<{ channelId: Hex; signer: LocalAccount }>;

/** What a voucher's signature is made over and by whom, where it is not what the payload says. */
export type Signing = Partial<
	Readonly<{ signer: LocalAccount; amount: bigint; channelId: Hex; chainId: number; escrow: Address }>
>;

export type ChannelOptions = Readonly<{ salt?: Hex; signer?: LocalAccount }>;

export type OpenOptions = Readonly<{
	deposit: bigint;
	/** Amount of the initial voucher (default 0). */
	amount?: bigint;
	voucher?: Signing;
	/** Members of the authorization that replace the right ones; they are signed as well. */
	authorization?: Partial<Authorization>;
	/** Signs the authorization instead of the payer. */
	signer?: LocalAccount;
}>;

export type ChargeOptions = Partial<Authorization> & Readonly<{ signer?: LocalAccount }>;

export type PayerOptions = Readonly<{
	account: LocalAccount;
	client: PublicClient;
	chainId: number;
	escrow: Address;
	token: Address;
	tokenDomain: TokenDomain;
}>;

export class Payer {
	readonly account: LocalAccount;
	readonly address: Address;
	readonly #options: PayerOptions;

	constructor(options: PayerOptions) {
		this.#options = options;
		this.account = options.account;
		this.address = options.account.address.toLowerCase() as Address;
	}

	/** Where the token's own signatures are good. */
	get tokenDomain(): TokenDomain {
		return this.#options.tokenDomain;
	}

	/** A new channel to `payee`, not open yet. */
	channel(payee: Address, options: ChannelOptions = {}): TestChannel {
		return this.channelOn(this.#options.escrow, payee, options);
	}

	/** The same on another escrow. */
	channelOn(escrow: Address, payee: Address, options: ChannelOptions = {}): TestChannel {
		return this.#channel({ ...this.#options, escrow }, payee, options);
	}

	/** The same in another token. */
	channelIn(token: Address, payee: Address, options: ChannelOptions = {}): TestChannel {
		return this.#channel({ ...this.#options, token }, payee, options);
	}

	#channel({ chainId, escrow, token }: PayerOptions, payee: Address, options: ChannelOptions): TestChannel {
		const { salt = `0x${randomBytes(32).toString("hex")}`, signer } = options;
		const parameters: ChannelParameters = {
			payer: this.address,
			payee: payee.toLowerCase() as Address,
			token,
			salt,
			authorizedSigner: (signer?.address.toLowerCase() as Address | undefined) ?? ZERO_ADDRESS,
			escrow,
			chainId,
		};
		return { ...parameters, channelId: computeChannelId(parameters), signer: signer ?? this.account };
	}

	/** `action="open"`, `type="authorization"`. */
	async open(challenge: Challenge, channel: TestChannel, options: OpenOptions): Promise<Draft> {
		const { payee, token, salt, authorizedSigner, escrow, channelId } = channel;
		const { deposit, amount = 0n } = options;
		const authorization: Authorization = {
			from: this.address,
			to: escrow,
			value: deposit,
			validAfter: 0n,
			validBefore: validBefore(challenge),
			nonce: openAuthorizationNonce({ from: this.address, payee, token, salt, authorizedSigner }),
			...options.authorization,
		};
		const signer = options.signer ?? this.account;
		return {
			challenge,
			payload: {
				action: "open",
				type: "authorization",
				channelId,
				authorization: toWire(authorization),
				signature: await signAuthorization("receive", signer, this.#options.tokenDomain, authorization),
				cumulativeAmount: String(amount),
				voucherSignature: await this.sign(channel, amount, options.voucher),
				...signerMember(channel),
				salt,
			},
		};
	}

	/** `action="open"`, `type="hash"`, for a channel that `openOnChain` opened. */
	async openByHash(
		challenge: Challenge,
		channel: TestChannel,
		hash: Hex,
		amount = 0n,
		signing: Signing = {},
	): Promise<Draft> {
		return {
			challenge,
			payload: {
				action: "open",
				type: "hash",
				channelId: channel.channelId,
				hash,
				cumulativeAmount: String(amount),
				signature: await this.sign(channel, amount, signing),
				...signerMember(channel),
				salt: channel.salt,
			},
			source: formatSource(channel.chainId, this.address),
		};
	}

	/** `action="voucher"`. */
	voucher(challenge: Challenge, channel: TestChannel, amount: bigint, signing: Signing = {}): Promise<Draft> {
		return this.#vouching("voucher", challenge, channel, amount, signing);
	}

	/** `action="close"`. */
	close(challenge: Challenge, channel: TestChannel, amount: bigint, signing: Signing = {}): Promise<Draft> {
		return this.#vouching("close", challenge, channel, amount, signing);
	}

	/** A charge of type `authorization`. `amount` and `recipient` are what the challenge asks for. */
	async charge(challenge: Challenge, recipient: Address, amount: bigint, options: ChargeOptions = {}): Promise<Draft> {
		const { signer = this.account, ...members } = options;
		const authorization: Authorization = {
			from: this.address,
			to: recipient.toLowerCase() as Address,
			value: amount,
			validAfter: 0n,
			validBefore: validBefore(challenge),
			nonce: chargeNonce(challenge.id, challenge.realm),
			...members,
		};
		const signature = await signAuthorization("transfer", signer, this.#options.tokenDomain, authorization);
		return { challenge, payload: { type: "authorization", ...toWire(authorization), signature } };
	}

	/** A voucher's signature. */
	sign(channel: TestChannel, amount: bigint, signing: Signing = {}): Promise<Hex> {
		const { signer, chainId, escrow, channelId, ...rest } = { ...channel, ...signing };
		const domain = createVoucherDomain(chainId, escrow);
		return signVoucher(signer, domain, {
			channelId,
			cumulativeAmount: "amount" in rest ? (rest.amount ?? amount) : amount,
		});
	}

	/** Opens the channel by the payer's own transactions; resolves to the hash of the one that opened it. */
	async openOnChain(channel: TestChannel, deposit: bigint): Promise<Hex> {
		const { escrow, token } = channel;
		await this.#send(approveCall(token, escrow, deposit));
		return this.#send(openCall(escrow, { ...channel, deposit }));
	}

	/** Sends a transaction that nobody simulated, so that it may be mined and revert. */
	sendBlind(call: Call, gas?: bigint): Promise<Hex> {
		return sendFrom(this.#options, this.account, call, gas);
	}

	/** Asks the escrow to close, past the server. */
	requestClose({ channelId, escrow }: TestChannel): Promise<Hex> {
		const data = encodeFunctionData({ abi: paymentChannelEscrowAbi, functionName: "requestClose", args: [channelId] });
		return this.#send({ to: escrow, data });
	}

	async #vouching(
		action: "voucher" | "close",
		challenge: Challenge,
		channel: TestChannel,
		amount: bigint,
		signing: Signing,
	): Promise<Draft> {
		const signature = await this.sign(channel, amount, signing);
		const payload = { action, channelId: channel.channelId, cumulativeAmount: String(amount), signature };
		return { challenge, payload };
	}

	#send(call: Call): Promise<Hex> {
		return sendFrom(this.#options, this.account, call);
	}
}

/** Sends one transaction and waits until it is mined, however it ends. Not by the product's sender: that is under test. */
export async function sendFrom(
	{ client, chainId }: Pick<PayerOptions, "client" | "chainId">,
	account: LocalAccount,
	{ to, data }: Call,
	gas = 1_000_000n,
): Promise<Hex> {
	const [nonce, { maxFeePerGas, maxPriorityFeePerGas }] = await Promise.all([
		client.getTransactionCount({ address: account.address, blockTag: "pending" }),
		client.estimateFeesPerGas(),
	]);
	const fees = { maxFeePerGas, maxPriorityFeePerGas, gas };
	const serializedTransaction = await account.signTransaction({ type: "eip1559", chainId, nonce, to, data, ...fees });
	const hash = await client.sendRawTransaction({ serializedTransaction });
	await mined(client, hash);
	return hash;
}

export function signerMember({ authorizedSigner }: ChannelParameters): { authorizedSigner?: Address } {
	return authorizedSigner === ZERO_ADDRESS ? {} : { authorizedSigner };
}

export function validBefore({ expires }: Challenge): bigint {
	return BigInt(Math.floor((parseTimestamp(expires ?? "") ?? 0) / 1_000));
}
