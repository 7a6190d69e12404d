import type { Address, Hex, LocalAccount, PublicClient } from "viem";
import { approveCall, openCall } from "../escrow/calls.ts";
import { readTokenDomain } from "../escrow/reads.ts";
import { TransactionSender } from "../escrow/sender.ts";
import {
	type Challenge,
	type ChargeRequest,
	encodeChargePayload,
	encodeSessionPayload,
	formatCredential,
	formatSource,
	parseTimestamp,
	type SessionPayload,
} from "../protocol/index.ts";
import {
	type ChannelParameters,
	chargeNonce,
	createVoucherDomain,
	domainSeparator,
	openAuthorizationNonce,
	signAuthorization,
	signVoucher,
	type TokenDomain,
	type VoucherDomain,
} from "../voucher/index.ts";

/** How long a deposit's authorization stays good when the challenge does not say, in seconds. */
const AUTHORIZATION_SECONDS = 300;

/** The token does not sign with the domain it states, or is no ERC-3009 token. */
export class TokenUnusableError extends Error {
	override readonly name = "TokenUnusableError";
	readonly code = "TOKEN_UNUSABLE";
}

export type SignerOptions = Readonly<{ account: LocalAccount; client: PublicClient; now: () => number }>;

/** Makes credentials with the payer's key. It signs what it is told: the policy has been asked before. */
export class CredentialSigner {
	readonly #account: LocalAccount;
	readonly #client: PublicClient;
	readonly #now: () => number;
	readonly #voucherDomains = new Map<string, VoucherDomain>();
	readonly #tokenDomains = new Map<Address, Promise<TokenDomain>>();

	constructor({ account, client, now }: SignerOptions) {
		this.#account = account;
		this.#client = client;
		this.#now = now;
	}

	get payer(): Address {
		return this.#account.address.toLowerCase() as Address;
	}

	/** `action="voucher"` or `"close"` for a cumulative amount. */
	async voucher(
		action: "voucher" | "close",
		challenge: Challenge,
		{ channelId, parameters }: Readonly<{ channelId: Hex; parameters: ChannelParameters }>,
		cumulativeAmount: bigint,
	): Promise<string> {
		const signature = await this.#signVoucher(parameters, channelId, cumulativeAmount);
		return credential(challenge, { action, channelId, cumulativeAmount, signature });
	}

	/** `action="open"` by an ERC-3009 authorization: the payer needs no gas (draft-evm-session-00, Open Payload). */
	async openByAuthorization(
		challenge: Challenge,
		channelId: Hex,
		parameters: ChannelParameters,
		deposit: bigint,
		cumulativeAmount: bigint,
	): Promise<string> {
		const { payer: from, payee, token, salt, authorizedSigner, escrow, chainId } = parameters;
		const authorization = {
			from,
			to: escrow,
			value: deposit,
			validAfter: 0n,
			validBefore: this.#validBefore(challenge),
			nonce: openAuthorizationNonce({ from, payee, token, salt, authorizedSigner }),
		};
		const [signature, voucherSignature] = await Promise.all([
			this.#tokenDomain(token, chainId).then((domain) =>
				signAuthorization("receive", this.#account, domain, authorization),
			),
			this.#signVoucher(parameters, channelId, cumulativeAmount),
		]);
		return credential(challenge, {
			action: "open",
			type: "authorization",
			channelId,
			authorization,
			signature,
			cumulativeAmount,
			voucherSignature,
			authorizedSigner,
			salt,
		});
	}

	/** Sends `approve` and `open` from the payer's account, then `action="open"` with the transaction's hash. */
	async openByTransaction(
		challenge: Challenge,
		channelId: Hex,
		parameters: ChannelParameters,
		deposit: bigint,
		cumulativeAmount: bigint,
	): Promise<string> {
		const { chainId, escrow, token, salt, authorizedSigner } = parameters;
		const sender = new TransactionSender({
			client: this.#client,
			account: this.#account,
			chainId,
			outbox: { put: async () => undefined },
			now: this.#now,
			pollMs: this.#client.pollingInterval,
		});
		const signature = await this.#signVoucher(parameters, channelId, cumulativeAmount);
		const approve = await sender.broadcast({ ...approveCall(token, escrow, deposit), purpose: { kind: "approve" } });
		await sender.wait(approve);
		const open = await sender.broadcast({
			...openCall(escrow, { ...parameters, deposit }),
			purpose: { kind: "open", channelId },
		});
		await sender.wait(open);
		const payload: SessionPayload = {
			action: "open",
			type: "hash",
			channelId,
			hash: open.hash,
			cumulativeAmount,
			signature,
			authorizedSigner,
			salt,
		};
		return credential(challenge, payload, formatSource(chainId, this.payer));
	}

	/** A charge of type `authorization` (draft-evm-charge-00, Authorization Payload). */
	async charge(challenge: Challenge, { amount, currency, recipient, methodDetails }: ChargeRequest): Promise<string> {
		const authorization = {
			from: this.payer,
			to: recipient,
			value: amount,
			validAfter: 0n,
			validBefore: this.#validBefore(challenge),
			nonce: chargeNonce(challenge.id, challenge.realm),
		};
		const domain = await this.#tokenDomain(currency, methodDetails.chainId);
		const signature = await signAuthorization("transfer", this.#account, domain, authorization);
		const payload = encodeChargePayload({ type: "authorization", ...authorization, signature });
		return formatCredential({ challenge, payload, source: formatSource(methodDetails.chainId, this.payer) });
	}

	#signVoucher({ chainId, escrow }: ChannelParameters, channelId: Hex, cumulativeAmount: bigint): Promise<Hex> {
		const key = `${chainId}:${escrow}`;
		const domain = this.#voucherDomains.get(key) ?? createVoucherDomain(chainId, escrow);
		this.#voucherDomains.set(key, domain);
		return signVoucher(this.#account, domain, { channelId, cumulativeAmount });
	}

	/** Unix seconds: an authorization lives as long as the challenge it answers. */
	#validBefore({ expires }: Challenge): bigint {
		const expiresMs = expires === undefined ? undefined : parseTimestamp(expires);
		return BigInt(Math.floor((expiresMs ?? this.#now() + AUTHORIZATION_SECONDS * 1_000) / 1_000));
	}

	/** Read from the payer's own node, never taken from the server that wants the money. */
	#tokenDomain(token: Address, chainId: number): Promise<TokenDomain> {
		const known = this.#tokenDomains.get(token);
		if (known !== undefined) return known;
		const reading = readDomain(this.#client, token, chainId);
		this.#tokenDomains.set(token, reading);
		reading.catch(() => this.#tokenDomains.delete(token));
		return reading;
	}
}

async function readDomain(client: PublicClient, token: Address, chainId: number): Promise<TokenDomain> {
	const { name, version, separator } = await readTokenDomain(client, token).catch((cause: unknown) => {
		throw new TokenUnusableError(`token ${token} does not answer as an ERC-3009 token`, { cause });
	});
	const domain = { name, version, chainId, verifyingContract: token };
	const expected = Array.from(domainSeparator(domain), (byte) => byte.toString(16).padStart(2, "0")).join("");
	if (`0x${expected}` !== separator.toLowerCase())
		throw new TokenUnusableError(`token ${token} does not sign with the domain it states`);
	return domain;
}

function credential(challenge: Challenge, payload: SessionPayload, source?: string): string {
	return formatCredential({
		challenge,
		payload: encodeSessionPayload(payload),
		...(source !== undefined && { source }),
	});
}
