/** Records for the store's tests: small, valid, and told apart by a number. */
import type { Hex } from "viem";
import type { OutboxEntry } from "../../../src/escrow/outbox.ts";
import type { SessionReceipt } from "../../../src/protocol/index.ts";
import { type Channel, unsettled } from "../../../src/server/channel.ts";
import type { AuditEntry, IdempotencyRecord, ProofRecord } from "../../../src/server/store/store.ts";

export const MINUTE_MS = 60_000;

export function id(n: number): Hex {
	return `0x${n.toString(16).padStart(64, "0")}`;
}

/** Owed since it was opened, where something is owed and `change` does not say since when. */
export function channel(n: number, change: Partial<Channel> = {}): Channel {
	const whole: Channel = {
		channelId: id(n),
		chainId: 31_337,
		escrow: `0x${"e5".repeat(20)}`,
		payer: `0x${"aa".repeat(20)}`,
		payee: `0x${"bb".repeat(20)}`,
		token: `0x${"cc".repeat(20)}`,
		authorizedSigner: `0x${"00".repeat(20)}`,
		deposit: 2n ** 127n,
		settledOnChain: 0n,
		closeRequestedAt: 0,
		finalized: false,
		blockNumber: 0,
		chainReadAt: 1_700_000_000_000,
		behind: null,
		acceptedCumulative: 0n,
		voucherSignature: `0x${"5a".repeat(65)}`,
		contractSigner: false,
		spent: 0n,
		reservations: {},
		generation: 0,
		publishedCumulative: null,
		closeTxHash: null,
		challengeIds: [],
		closingBy: null,
		openedAt: 1_700_000_000_000,
		lastActivityAt: 1_700_000_000_000,
		unsettledSince: null,
		deferredAt: 0,
		...change,
	};
	return "unsettledSince" in change || unsettled(whole) === 0n ? whole : { ...whole, unsettledSince: whole.openedAt };
}

export function proof(key: string, change: Partial<ProofRecord> = {}): ProofRecord {
	return { key, state: "used", owner: "process", usedBy: "payer", expiresAt: null, ...change };
}

export function idempotency(key: string, change: Partial<IdempotencyRecord> = {}): IdempotencyRecord {
	return { key, fingerprint: "f", state: "running", owner: "process", expiresAt: 2_000_000_000_000, ...change };
}

export function receipt(n: number, change: Partial<SessionReceipt> = {}): SessionReceipt {
	return {
		method: "evm",
		intent: "session",
		status: "success",
		timestamp: "2026-11-27T10:00:00.000Z",
		challengeId: "challenge",
		chainId: 31_337,
		reference: id(n),
		channelId: id(n),
		acceptedCumulative: 2n ** 127n,
		spent: 5n,
		...change,
	};
}

export function transaction(n: number, change: Partial<OutboxEntry> = {}): OutboxEntry {
	return {
		hash: id(n),
		raw: "0x02",
		chainId: 31_337,
		from: `0x${"dd".repeat(20)}`,
		nonce: n,
		purpose: { kind: "settle" },
		state: "pending",
		createdAt: 1_700_000_000_000,
		...change,
	};
}

export function line(n: number, change: Partial<AuditEntry> = {}): AuditEntry {
	return { at: 1_700_000_000_000, kind: "test", values: { n: String(n) }, ...change };
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
	const all: T[] = [];
	for await (const item of items) all.push(item);
	return all;
}
