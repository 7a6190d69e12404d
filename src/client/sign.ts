import { type Address, bytesToHex, getAddress, type Hex, type LocalAccount } from "viem";
import type { SignedAuthorization } from "../escrow/calls.ts";
import { readTokenDomain } from "../escrow/reads.ts";
import {
	type Challenge,
	credentialText,
	formatCredential,
	formatSource,
	type Permit2OpenAuthorization,
	parseTimestamp,
} from "../protocol/index.ts";
import {
	type AuthorizationKind,
	authorizationDigest,
	type ChannelParameters,
	type ChannelPermit,
	channelPermitDigest,
	channelPermitTypedData,
	createPermit2Domain,
	createVoucherDomain,
	type PaymentPermit,
	paymentPermitDigest,
	paymentPermitTypedData,
	receiveAuthorizationTypedData,
	signAuthorization,
	signChannelPermit,
	signPaymentPermit,
	type TokenDomain,
	transferAuthorizationTypedData,
	type VoucherDomain,
	ZERO_ADDRESS,
} from "../voucher/index.ts";
import { type PayerAccount, sendsItself } from "./account.ts";
import { signVoucherBy } from "./digestSigner.ts";
import type { Nodes } from "./nodes.ts";
import { assertExecutable } from "./payerSignature.ts";
import { type Mover, PayingAccount } from "./payingAccount.ts";
import { remembered } from "./remembered.ts";
import { type AccountOf, SessionKey, type SessionKeyUse } from "./sessionKeys.ts";

/** The longest that an authorization of money stays good, in seconds. A challenge can only ask for less. */
export const AUTHORIZATION_SECONDS = 300;

export type SignerOptions = Readonly<{
	/** The payer. */
	account: PayerAccount;
	/** A session key: signs vouchers of the channels that are opened with it, and nothing else. */
	authorizedSigner?: LocalAccount | undefined;
	/** Whose channels get a fresh session key each, where no `authorizedSigner` is given. Default: those of `contracts`. */
	sessionKeys?: SessionKeyUse | undefined;
	/** Makes the accounts of session keys. Default: portable ones. */
	keyAccount?: AccountOf | undefined;
	nodes: Nodes;
	/** Instead of what tokens say of themselves. */
	tokenNames?: readonly TokenNames[] | undefined;
	now: () => number;
}>;

/** With which name and version a token signs. */
export type TokenNames = Readonly<{ chainId: number; token: string; name: string; version: string }>;

/** Where a Permit2 signature is good. */
export type Permit2At = Readonly<{ chainId: number; permit2: Address }>;

type AnyTypedData = Parameters<PayerAccount["signTypedData"]>[0];
type PermitFields = Omit<Permit2OpenAuthorization, "witness">;

/** Who signs the vouchers of a channel that is about to be made; the key is that channel's own, if it gets one. */
export type VoucherSigner = Readonly<{ authorizedSigner: Address; sessionKey: SessionKey | undefined }>;

/** What vouchers are signed for, and the channel's own key, if it has one. */
export type SigningChannel = Readonly<{
	channelId: Hex;
	parameters: Omit<ChannelParameters, "salt">;
	sessionKey?: SessionKey | undefined;
}>;

/** Signs with the payer's key, or a session key. It signs what it is told: the policy has been asked before. */
export class CredentialSigner {
	/** The payer. */
	readonly paying: PayingAccount;
	readonly #sessionKey: LocalAccount | undefined;
	readonly #sessionKeys: SessionKeyUse;
	readonly #keyAccount: AccountOf | undefined;
	readonly #nodes: Nodes;
	readonly #now: () => number;
	readonly #voucherDomains = new Map<string, VoucherDomain>();
	readonly #tokenDomains = new Map<string, Promise<TokenDomain>>();
	readonly #tokenNames: readonly TokenNames[];

	constructor(options: SignerOptions) {
		const { account, authorizedSigner, sessionKeys = "contracts", nodes, tokenNames = [], now } = options;
		this.#tokenNames = tokenNames;
		this.#keyAccount = options.keyAccount;
		this.paying = new PayingAccount(account, nodes);
		this.#sessionKey = authorizedSigner;
		this.#sessionKeys = sessionKeys;
		this.#nodes = nodes;
		this.#now = now;
	}

	get payer(): Address {
		return this.paying.address;
	}

	/** The fixed session key that every new channel names to sign its vouchers; else the zero address, which stands for the payer (D13). */
	get authorizedSigner(): Address {
		const key = this.#sessionKey && lower(this.#sessionKey.address);
		return key === undefined || key === this.payer ? ZERO_ADDRESS : key;
	}

	/** Every `authorizedSigner` that vouchers can be signed for without a key of the channel's own. */
	get signers(): readonly Address[] {
		return [ZERO_ADDRESS, this.payer, this.authorizedSigner];
	}

	/**
	 * Who is to sign the vouchers of a new channel: the fixed session key, a fresh one of the channel's own, or the payer. A
	 * payer that is a contract signs none that the wire could carry, and a wallet in a browser would ask a person about each.
	 */
	async newVoucherSigner(chainId: number): Promise<VoucherSigner> {
		const payerSigns: VoucherSigner = { authorizedSigner: this.authorizedSigner, sessionKey: undefined };
		if (this.#sessionKey !== undefined || this.#sessionKeys === "never") return payerSigns;
		const wants = this.#sessionKeys === "always" || sendsItself(this.paying.account);
		if (!wants && (await this.paying.kindAt(chainId)) !== "contract") return payerSigns;
		const sessionKey = SessionKey.create(this.#keyAccount);
		return { authorizedSigner: sessionKey.address, sessionKey };
	}

	/** A session key that was kept. */
	keptSessionKey(key: Hex): SessionKey {
		return SessionKey.from(key, this.#keyAccount);
	}

	/** A voucher, by whoever the channel names. */
	voucher({ channelId, parameters, sessionKey }: SigningChannel, cumulativeAmount: bigint): Promise<Hex> {
		const { chainId, escrow, authorizedSigner } = parameters;
		const key = `${chainId}:${escrow}`;
		const domain = this.#voucherDomains.get(key) ?? createVoucherDomain(chainId, escrow);
		this.#voucherDomains.set(key, domain);
		const keys = [sessionKey?.account, this.#sessionKey];
		const named = keys.find((account) => account !== undefined && lower(account.address) === authorizedSigner);
		return signVoucherBy(named ?? this.paying.account, domain, { channelId, cumulativeAmount });
	}

	/**
	 * An ERC-3009 authorization in the token's own domain, which is read from the payer's node.
	 *
	 * @throws UnusableSignatureError where the payer has code, and the token would not take it
	 */
	async authorize(
		kind: AuthorizationKind,
		challenge: Challenge,
		{ chainId, token }: Readonly<{ chainId: number; token: Address }>,
		transfer: Readonly<{ to: Address; value: bigint; nonce: Hex }>,
	): Promise<SignedAuthorization> {
		const authorization = {
			from: this.payer,
			to: transfer.to,
			value: transfer.value,
			validAfter: 0n,
			validBefore: this.goodUntil(challenge),
			nonce: transfer.nonce,
		};
		const domain = await this.tokenDomain(token, chainId);
		const { account } = this.paying;
		const mover: Mover = { by: "authorization", chainId, token };
		const signature = await this.paying.sign(mover, {
			digest: () => authorizationDigest(kind, domain, authorization),
			byKey: () => signAuthorization(kind, account, domain, authorization),
			byContract: () =>
				kind === "receive"
					? account.signTypedData(receiveAuthorizationTypedData(domain, authorization))
					: account.signTypedData(transferAuthorizationTypedData(domain, authorization)),
			check: (client, made) => assertExecutable(client, kind, token, { ...authorization, signature: made }),
		});
		return { ...authorization, signature };
	}

	/** A deposit through Permit2: all of its `authorization` but the witness, and the signature. */
	async permitChannel(
		challenge: Challenge,
		{ chainId, permit2 }: Permit2At,
		permit: Omit<ChannelPermit, "deadline">,
	): Promise<Readonly<{ permit: PermitFields; signature: Hex }>> {
		const { permitted, nonce } = permit;
		const deadline = this.goodUntil(challenge);
		const domain = createPermit2Domain(chainId, permit2);
		const whole = { ...permit, deadline };
		const { account } = this.paying;
		const mover: Mover = { by: "permit2", chainId, token: permitted.token };
		const signature = await this.paying.sign(mover, {
			digest: () => channelPermitDigest(domain, whole),
			byKey: () => signChannelPermit(account, domain, whole),
			byContract: () => account.signTypedData(channelPermitTypedData(domain, whole) as AnyTypedData),
		});
		return { permit: { from: this.payer, permitted: { ...permitted }, nonce, deadline }, signature };
	}

	/** A charge through Permit2; the challenge is in the witness. */
	async permitPayment(
		challenge: Challenge,
		{ chainId, permit2 }: Permit2At,
		permit: Omit<PaymentPermit, "deadline">,
	): Promise<Readonly<{ deadline: bigint; signature: Hex }>> {
		const deadline = this.goodUntil(challenge);
		const domain = createPermit2Domain(chainId, permit2);
		const whole = { ...permit, deadline };
		const { account } = this.paying;
		// A wallet that signs no bare digest signs what is meant as EIP-712 would have it.
		const sign = "sign" in account ? account.sign : undefined;
		const digest = paymentPermitDigest(domain, whole, sign === undefined ? "eip712" : "draft");
		const mover: Mover = { by: "permit2", chainId, token: permit.permitted[0]?.token ?? ZERO_ADDRESS };
		const signature = await this.paying.sign(mover, {
			digest: () => digest,
			byKey: () => signPaymentPermit(account, domain, whole),
			byContract: () =>
				sign === undefined
					? account.signTypedData(paymentPermitTypedData(domain, whole) as AnyTypedData)
					: sign({ hash: bytesToHex(digest) }),
		});
		return { deadline, signature };
	}

	/** Unix seconds: an authorization lives as long as the challenge it answers, but never long (core, Amount Verification). */
	goodUntil({ expires }: Challenge): bigint {
		const latestMs = this.#now() + AUTHORIZATION_SECONDS * 1_000;
		const expiresMs = expires === undefined ? undefined : parseTimestamp(expires);
		return BigInt(Math.floor(Math.min(expiresMs ?? latestMs, latestMs) / 1_000));
	}

	/** A credential of this payer; `source` names it where there is a chain. */
	credential(challenge: Challenge, payload: Readonly<Record<string, unknown>>, chainId?: number): string {
		if (chainId === undefined) return credentialText(challenge, payload);
		return formatCredential({
			challenge,
			payload: { ...payload },
			source: formatSource(chainId, getAddress(this.payer)),
		});
	}

	/**
	 * Read from the payer's own node, never taken from the server that wants the money.
	 *
	 * @throws TokenUnusableError when the token does not sign with the domain that it states
	 */
	tokenDomain(token: Address, chainId: number): Promise<TokenDomain> {
		return remembered(this.#tokenDomains, `${chainId}:${token}`, async () =>
			readTokenDomain(await this.#nodes.at(chainId), token, chainId, this.#namesOf(token, chainId)),
		);
	}

	#namesOf(token: Address, chainId: number): TokenNames | undefined {
		return this.#tokenNames.find((names) => names.chainId === chainId && lower(names.token as Address) === token);
	}
}

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
