/**
 * What the payer's account was asked to sign, judged by the policy's words alone: by what the signatures say, not by what the
 * client has counted.
 */
import { type Address, bytesToHex, decodeFunctionData, type Hex } from "viem";
import { expect } from "vitest";
import { erc3009Abi, paymentChannelEscrowAbi } from "../../src/escrow/index.ts";
import { parseChargePayload } from "../../src/protocol/index.ts";
import {
	CANONICAL_PERMIT2,
	type ChannelParameters,
	computeChannelId,
	createPermit2Domain,
	paymentPermitDigest,
} from "../../src/voucher/index.ts";
import type { ScriptedServer, Spy } from "./support.ts";

/** Value that was signed away. */
export type Spent = Readonly<{ atMs: number; amount: bigint; host: string; payee?: Address; channelId?: string }>;

/** What may be signed at all. Addresses are lowercase. */
export type Allowed = Readonly<{
	chainId: number;
	token: Address;
	escrow: Address;
	payees: readonly Address[];
	splitRecipients: readonly Address[];
	maxDeposit: bigint;
	maxPrice: bigint;
	/** How long an authorization may be good, in seconds. */
	goodForSeconds: number;
	ownTransactions: boolean;
}>;

/** A deposit, or more of one. Signatures of one nonce can be used once. */
export type Deposit = Readonly<{ nonce: string; amount: bigint }>;

const lower = (value: unknown) => String(value).toLowerCase() as Address;

/** Reads all that a spy sees, wave after wave. */
export class SignatureOracle {
	readonly spent: Spent[] = [];
	readonly deposits: Deposit[] = [];
	/** Charges as they were signed. */
	readonly charges: bigint[] = [];
	readonly #spy: Spy;
	readonly #allowed: Allowed;
	readonly #highest = new Map<string, bigint>();
	readonly #payees = new Map<string, Address>();
	readonly #seen = { signed: 0, transactions: 0, hashes: 0 };
	readonly #transfers = new Set<unknown>();

	constructor(spy: Spy, allowed: Allowed) {
		this.#spy = spy;
		this.#allowed = allowed;
	}

	/** How many signatures there were, of any kind. */
	get count(): number {
		const { signed, transactions, hashes, others } = this.#spy;
		return signed.length + transactions.length + hashes.length + others.length;
	}

	/** Whom a channel pays: believed only where its id is made of that. */
	knowChannel(
		channelId: Hex,
		parameters: Omit<ChannelParameters, "salt"> & Readonly<{ salt?: Hex | undefined }>,
	): void {
		const { salt } = parameters;
		if (salt !== undefined) expect(computeChannelId({ ...parameters, salt })).toBe(channelId);
		expect(lower(parameters.escrow)).toBe(this.#allowed.escrow);
		expect(lower(parameters.token)).toBe(this.#allowed.token);
		expect(this.#allowed.payees).toContain(lower(parameters.payee));
		this.#payees.set(channelId, lower(parameters.payee));
	}

	/**
	 * Takes in what was signed since it was called last, all of it for requests to one host.
	 *
	 * @throws AssertionError on the first signature that no policy allows
	 */
	takeIn(host: string, server: ScriptedServer, atMs: number): void {
		const { signed, transactions, hashes, others } = this.#spy;
		expect(others).toEqual([]);
		for (const one of signed.slice(this.#seen.signed)) this.#typedData(one as Typed, host, atMs);
		for (const one of transactions.slice(this.#seen.transactions)) this.#transaction(one, host, atMs);
		this.#hashes(hashes.slice(this.#seen.hashes), server, host, atMs);
		Object.assign(this.#seen, { signed: signed.length, transactions: transactions.length, hashes: hashes.length });
	}

	#typedData({ primaryType, domain, message }: Typed, host: string, atMs: number): void {
		const { chainId, token, escrow, payees, maxPrice } = this.#allowed;
		expect(Number(domain.chainId)).toBe(chainId);
		const at = lower(domain.verifyingContract);
		switch (primaryType) {
			case "Voucher": {
				expect(at).toBe(escrow);
				const channelId = String(message.channelId);
				const amount = message.cumulativeAmount as bigint;
				const highest = this.#highest.get(channelId) ?? 0n;
				if (amount <= highest) break;
				this.#highest.set(channelId, amount);
				const payee = this.#payees.get(channelId);
				this.spent.push({ atMs, amount: amount - highest, host, channelId, ...(payee && { payee }) });
				break;
			}
			case "ReceiveWithAuthorization":
				expect([at, lower(message.to)]).toEqual([token, escrow]);
				this.#deposit(message.nonce, message.value as bigint);
				this.#inTime(message.validBefore, atMs);
				break;
			case "PermitWitnessTransferFrom": {
				const { permitted, spender, nonce, deadline, witness } = message as Permit;
				expect([at, domain.name]).toEqual([CANONICAL_PERMIT2.toLowerCase(), "Permit2"]);
				expect([lower(permitted.token), lower(spender)]).toEqual([token, escrow]);
				if (witness.payee !== undefined) expect(payees).toContain(lower(witness.payee));
				this.#deposit(`permit2 ${nonce}`, permitted.amount);
				this.#inTime(deadline, atMs);
				break;
			}
			case "TransferWithAuthorization": {
				expect(at).toBe(token);
				const payee = lower(message.to);
				const amount = message.value as bigint;
				expect(payees).toContain(payee);
				expect(amount).toBeLessThanOrEqual(maxPrice);
				this.#inTime(message.validBefore, atMs);
				this.charges.push(amount);
				this.spent.push({ atMs, amount, host, payee });
				break;
			}
			default:
				throw new Error(`a ${primaryType} was signed`);
		}
	}

	#transaction(transaction: Spy["transactions"][number], host: string, atMs: number): void {
		const { chainId, token, escrow, payees, maxDeposit, maxPrice, ownTransactions } = this.#allowed;
		expect(ownTransactions).toBe(true);
		const { to, data, value = 0n, nonce } = transaction;
		expect([transaction.chainId, value]).toEqual([chainId, 0n]);
		const abi = [...erc3009Abi, ...paymentChannelEscrowAbi];
		const { functionName, args = [] } = decodeFunctionData({ abi, data: data as Hex });
		const [first, second, third] = args as readonly unknown[];
		switch (functionName) {
			case "approve":
				expect(lower(to)).toBe(token);
				expect([escrow, CANONICAL_PERMIT2.toLowerCase()]).toContain(lower(first));
				expect(second).toBeLessThanOrEqual(maxDeposit);
				break;
			case "transfer":
				expect(lower(to)).toBe(token);
				expect(payees).toContain(lower(first));
				expect(second).toBeLessThanOrEqual(maxPrice);
				// Two of one nonce are one: the first was never broadcast.
				if (!this.#transfers.has(nonce)) {
					this.charges.push(second as bigint);
					this.spent.push({ atMs, amount: second as bigint, host, payee: lower(first) });
				}
				this.#transfers.add(nonce);
				break;
			case "topUp":
				expect(lower(to)).toBe(escrow);
				this.#deposit(`transaction ${nonce}`, second as bigint);
				break;
			case "open":
				expect(lower(to)).toBe(escrow);
				expect(payees).toContain(lower(first));
				expect(lower(second)).toBe(token);
				this.#deposit(`transaction ${nonce}`, third as bigint);
				break;
			default:
				throw new Error(`${functionName} was sent`);
		}
	}

	/** A bare digest is that of a charge by Permit2, which the server was sent. */
	#hashes(hashes: readonly Hex[], server: ScriptedServer, host: string, atMs: number): void {
		if (hashes.length === 0) return;
		const { chainId, token, payees, splitRecipients, maxPrice } = this.#allowed;
		const domain = createPermit2Domain(chainId, CANONICAL_PERMIT2);
		const sent = new Map<Hex, ReturnType<typeof parseChargePayload>>();
		for (const payload of server.payloads()) {
			if (payload.permit === undefined) continue;
			const parsed = parseChargePayload(payload);
			if (parsed.type !== "permit2") throw new Error("another payload");
			const spender = parsed.transferDetails[0]?.to as Address;
			const whole = { ...parsed.permit, spender, witness: parsed.witness };
			sent.set(bytesToHex(paymentPermitDigest(domain, whole, "draft")), parsed);
		}
		for (const hash of hashes) {
			const payload = sent.get(hash);
			if (payload?.type !== "permit2") throw new Error("a digest was signed that nobody was sent");
			const { permit, transferDetails } = payload;
			const [first, ...rest] = transferDetails;
			expect(payees).toContain(lower(first?.to));
			for (const { to } of rest) expect(splitRecipients).toContain(lower(to));
			expect(permit.permitted.every((one) => lower(one.token) === token)).toBe(true);
			expect(permit.permitted.map(({ amount }) => amount)).toEqual(
				transferDetails.map(({ requestedAmount }) => requestedAmount),
			);
			const amount = permit.permitted.reduce((sum, one) => sum + one.amount, 0n);
			expect(amount).toBeLessThanOrEqual(maxPrice);
			this.#inTime(permit.deadline, atMs);
			this.charges.push(amount);
			this.spent.push({ atMs, amount, host, payee: lower(first?.to) });
		}
	}

	#deposit(nonce: unknown, amount: bigint): void {
		expect(amount).toBeLessThanOrEqual(this.#allowed.maxDeposit);
		this.deposits.push({ nonce: String(nonce), amount });
	}

	#inTime(until: unknown, atMs: number): void {
		expect(until).toBeLessThanOrEqual(BigInt(Math.ceil(atMs / 1_000) + this.#allowed.goodForSeconds));
	}
}

type Typed = Readonly<{
	primaryType: string;
	domain: Record<string, unknown>;
	message: Readonly<Record<string, unknown>>;
}>;

type Permit = Readonly<{
	permitted: Readonly<{ token: Address; amount: bigint }>;
	spender: Address;
	nonce: bigint;
	deadline: bigint;
	witness: Readonly<Record<string, unknown>>;
}>;

/** The highest sum of each group: what a limit for each of them is to be compared with. */
export function highestSum(spent: readonly Spent[], groupOf: (one: Spent) => string | undefined): bigint {
	const sums = new Map<string, bigint>();
	for (const one of spent) {
		const group = groupOf(one);
		if (group !== undefined) sums.set(group, (sums.get(group) ?? 0n) + one.amount);
	}
	return [...sums.values()].reduce((most, sum) => (sum > most ? sum : most), 0n);
}

/** The window of the calendar, in UTC, that a moment is in. */
export const windowOf = {
	hour: (atMs: number) => new Date(atMs).toISOString().slice(0, 13),
	day: (atMs: number) => new Date(atMs).toISOString().slice(0, 10),
	month: (atMs: number) => new Date(atMs).toISOString().slice(0, 7),
	ever: (_atMs: number) => "ever",
} as const;
