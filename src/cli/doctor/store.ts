/** What a store holds: whether it can be read, what is on its way, what is owed, what is at risk. */
import type { Address } from "viem";
import { chainNow, unsettled } from "../../server/channel.ts";
import type { ChannelStore } from "../../server/store/store.ts";
import { statusOf } from "../shared/channelRow.ts";
import { describeFailure } from "../shared/failure.ts";
import { withStoreCopy } from "../shared/storeCopy.ts";
import { Totals } from "../shared/totals.ts";
import { duration } from "../shared/words.ts";
import { type Check, fail, ok, warn } from "./check.ts";

/** After how long a transaction should have been mined, or bid more, several times over. */
const STUCK_MS = 600_000;

/** What a store says of where it is used. */
export type StoreFindings = Readonly<{
	escrows: readonly Address[];
	tokens: readonly Address[];
	payees: readonly Address[];
	/** Of channels whose payers asked to close and that still owe: Unix seconds, and how much. */
	closing: readonly Readonly<{ channelId: string; escrow: Address; closeRequestedAt: number; owed: bigint }>[];
}>;

/** Looks into a copy of the store: the server may be running. `findings` are absent where it can't be read at all. */
export async function storeChecks(folder: string, chainId: number | undefined): Promise<StoreChecks> {
	try {
		return await withStoreCopy(folder, async (store) => {
			const channels = await lookAtChannels(store, chainId);
			const checks = [...channels.checks, await pendingCheck(store)];
			return { checks: [...checks, damagedCheck(store)], findings: channels.findings };
		});
	} catch (error) {
		const { message } = describeFailure(error, []);
		return { checks: [fail("store", message, "restore it from a backup, or fix --data")] };
	}
}

type StoreChecks = Readonly<{ checks: readonly Check[]; findings?: StoreFindings }>;

function damagedCheck(store: ChannelStore): Check {
	const name = "damaged records";
	const damaged = store.quarantined();
	if (damaged.length === 0) return ok(name, "none");
	const detail = `${damaged.length}: ${damaged.map(({ key }) => key).join(", ")}`;
	const hint = "restore them from a backup; everything else can still be settled";
	return fail(name, detail, hint, { damaged: damaged.length });
}

async function lookAtChannels(store: ChannelStore, chainId: number | undefined) {
	const escrows = new Set<Address>();
	const tokens = new Set<Address>();
	const payees = new Set<Address>();
	const closing: StoreFindings["closing"][number][] = [];
	const owedTotal = new Totals();
	let count = 0;
	let open = 0;
	let frozen = 0;
	for await (const channel of store.channels()) {
		count++;
		const status = statusOf(channel);
		if (status === "finalized") continue;
		open++;
		if (status === "frozen") frozen++;
		const owed = unsettled(channel);
		owedTotal.add(channel.token, owed);
		if (chainId !== undefined && channel.chainId !== chainId) continue;
		escrows.add(channel.escrow);
		tokens.add(channel.token);
		payees.add(channel.payee);
		const { closeRequestedAt } = chainNow(channel);
		if (closeRequestedAt !== 0 && owed > 0n) {
			closing.push({ channelId: channel.channelId, escrow: channel.escrow, closeRequestedAt, owed });
		}
	}
	const checks: Check[] = [
		ok("store", `${count} channels, ${open} of them not finalized`, { channels: count, open }),
		ok("owed", `${owedTotal}`, owedTotal.toJSON()),
	];
	if (frozen > 0) {
		const detail = `${frozen} channels, by a reorganization that took back what they relied on`;
		checks.push(warn("frozen", detail, "they thaw when the chain has caught up; settle what they owe", { frozen }));
	}
	return { checks, findings: { escrows: [...escrows], tokens: [...tokens], payees: [...payees], closing } };
}

async function pendingCheck(store: ChannelStore): Promise<Check> {
	const name = "pending transactions";
	let count = 0;
	let oldest = Number.POSITIVE_INFINITY;
	for await (const { createdAt } of store.outbox({ state: "pending" })) {
		count++;
		oldest = Math.min(oldest, createdAt);
	}
	if (count === 0) return ok(name, "none", { pending: 0 });
	const ageMs = Date.now() - oldest;
	const detail = `${count}, the oldest ${duration(ageMs / 1_000)} old`;
	if (ageMs < STUCK_MS) return ok(name, detail, { pending: count });
	const hint = "start the server, or run `sluice channels settle --all`, which take them up; look at the gas price";
	return warn(name, detail, hint, { pending: count });
}

/** Whether money may be withdrawn before it is settled (I9). */
export function closingCheck(
	{ closing }: StoreFindings,
	closeGraceSeconds: number | undefined,
	nowSeconds: number,
): Check {
	const name = "close requests";
	if (closing.length === 0) return ok(name, "none that owes something", { closing: 0 });
	const hint = "start the server, or run `sluice channels settle --all`";
	if (closeGraceSeconds === undefined) {
		return warn(name, `${closing.length} that owe something; how long they wait is not known`, hint, {
			closing: closing.length,
		});
	}
	const least = Math.min(...closing.map(({ closeRequestedAt }) => closeRequestedAt + closeGraceSeconds - nowSeconds));
	const values = { closing: closing.length, secondsLeft: least };
	if (least <= 0) return fail(name, `${closing.length} that owe something; a payer can withdraw already`, hint, values);
	const detail = `${closing.length} that owe something; the first payer can withdraw in ${duration(least)}`;
	return (least < closeGraceSeconds / 2 ? fail : warn)(name, detail, hint, values);
}
