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
	openAuthorizationNonce,
	signAuthorization,
	signVoucher,
	type TokenDomain,
	type VoucherDomain,
} from "../voucher/index.ts";
import { PolicyRefusedError } from "./policy.ts";

/** The longest that an authorization of money stays good, in seconds. A challenge can only ask for less. */
export const AUTHORIZATION_SECONDS = 300;

export type SignerOptions = Readonly<{ account: LocalAccount; client: PublicClient; now: () => number }>;

/** Makes credentials with the payer's key. It signs what it is told: the policy has been asked before. */
export class CredentialSigner {
	readonly #account: LocalAccount;
	readonly #client: PublicClient;
	readonly #now: () => number;
	readonly #voucherDomains = new Map<string, VoucherDomain>();
	readonly #tokenDomains = new Map<string, Promise<TokenDomain>>();
	/** One sender, and one funding at a time: they share the account's nonces and the escrow's allowance. */
	readonly #senders = new Map<number, Promise<TransactionSender>>();
	#funding: Promise<unknown> = Promise.resolve();

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
		const domain = await this.#tokenDomain(token, chainId);
		const signature = await signAuthorization("receive", this.#account, domain, authorization);
		const voucherSignature = await this.#signVoucher(parameters, channelId, cumulativeAmount);
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

	/**
	 * Sends `approve` and `open` from the payer's account; resolves when the channel is open. `onSent` is told the hash of
	 * `open` as soon as it may be on its way, whatever becomes of the wait.
	 */
	fund(
		channelId: Hex,
		parameters: ChannelParameters,
		deposit: bigint,
		onSent: (hash: Hex) => void = () => undefined,
	): Promise<void> {
		const { chainId, escrow, token } = parameters;
		const funding = this.#funding.then(async () => {
			const sender = await this.#sender(chainId);
			const approve = await sender.broadcast({ ...approveCall(token, escrow, deposit), purpose: { kind: "approve" } });
			await sender.wait(approve);
			const open = await sender.broadcast({
				...openCall(escrow, { ...parameters, deposit }),
				purpose: { kind: "open", channelId },
			});
			onSent(open.hash);
			await sender.wait(open);
		});
		this.#funding = funding.catch(() => undefined);
		return funding;
	}

	/** `action="open"` for a channel that the payer's own transaction `hash` opened (draft-evm-session-00, Open Payload). */
	async openByTransaction(
		challenge: Challenge,
		channelId: Hex,
		parameters: ChannelParameters,
		hash: Hex,
		cumulativeAmount: bigint,
	): Promise<string> {
		const { chainId, salt, authorizedSigner } = parameters;
		const signature = await this.#signVoucher(parameters, channelId, cumulativeAmount);
		const payload: SessionPayload = {
			action: "open",
			type: "hash",
			channelId,
			hash,
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

	/** Unix seconds: an authorization lives as long as the challenge it answers, but never long (core, Amount Verification). */
	#validBefore({ expires }: Challenge): bigint {
		const latestMs = this.#now() + AUTHORIZATION_SECONDS * 1_000;
		const expiresMs = expires === undefined ? undefined : parseTimestamp(expires);
		return BigInt(Math.floor(Math.min(expiresMs ?? latestMs, latestMs) / 1_000));
	}

	/** Read from the payer's own node, never taken from the server that wants the money. */
	#tokenDomain(token: Address, chainId: number): Promise<TokenDomain> {
		return remembered(this.#tokenDomains, `${chainId}:${token}`, () => readTokenDomain(this.#client, token, chainId));
	}

	#sender(chainId: number): Promise<TransactionSender> {
		return remembered(this.#senders, chainId, async () => {
			const served = await this.#client.getChainId();
			if (served !== chainId)
				throw new PolicyRefusedError("chain", `the payer's node serves chain ${served}, not ${chainId}`);
			return new TransactionSender({
				client: this.#client,
				account: this.#account,
				chainId,
				outbox: { put: async () => undefined },
				now: this.#now,
				pollMs: this.#client.pollingInterval,
			});
		});
	}
}

/** What was read once, or is being read; a failure is not remembered. */
function remembered<Key, Value>(known: Map<Key, Promise<Value>>, key: Key, read: () => Promise<Value>): Promise<Value> {
	const found = known.get(key);
	if (found !== undefined) return found;
	const reading = read();
	known.set(key, reading);
	reading.catch(() => known.delete(key));
	return reading;
}

function credential(challenge: Challenge, payload: SessionPayload, source?: string): string {
	return formatCredential({
		challenge,
		payload: encodeSessionPayload(payload),
		...(source !== undefined && { source }),
	});
}
