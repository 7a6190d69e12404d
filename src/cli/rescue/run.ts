import { type Channel, chainNow, unsettled } from "../../server/channel.ts";
import type { SettlementRun, SettlementRunRow } from "../../server/settlement/run.ts";
import type { Chain } from "../shared/chain.ts";
import { type ChannelStatus, statusOf } from "../shared/channelRow.ts";
import type { Run } from "../shared/command.ts";
import { tellDamaged } from "../shared/damaged.ts";
import { estimate } from "../shared/estimate.ts";
import type { ExitCode } from "../shared/exit.ts";
import { mayOwe, type SettlementOptions, type Workshop, withOperators } from "../shared/operators.ts";
import { progressLine, type ReportRow, reportRow, writeReport } from "../shared/settlementReport.ts";
import type { Column } from "../shared/table.ts";
import { duration, shortHex } from "../shared/words.ts";

/** A channel that owes something by store and chain together. */
type Owing = Readonly<{
	channel: Channel;
	/** Base units: the highest voucher, as much of it as the deposit covers, less what is settled. */
	owed: bigint;
	/** Seconds by the chain's clock until the payer can withdraw; `undefined` where it has not asked to. 0: it can already. */
	secondsLeft: number | undefined;
}>;

type RescueRow = ReportRow &
	Readonly<{
		state: ChannelStatus;
		deposit: string;
		acceptedCumulative: string;
		settledOnChain: string;
		closeRequestedAt: number;
		/** `null`: the payer has not asked the chain to close. */
		secondsLeft: number | null;
	}>;

/** What is owed to the payee by a copy of its store, as the chain has it now; and brings it in. */
export function rescue(run: Run, options: SettlementOptions): Promise<ExitCode> {
	const { dryRun = false, minValue = 1n } = options;
	return withOperators(run, options, "sluice rescue", async (workshop) => {
		const { store, chain, operators, relayed } = workshop;
		const owing: Owing[] = [];
		const runs: SettlementRun[] = [];
		const unread: Channel[] = [];
		const nowSeconds = await chainTime(chain);
		for (const [payee, operator] of operators) {
			const own = await candidates(workshop, payee);
			for (const channel of await operator.refresh(own)) {
				const owed = unsettled(channel);
				if (owed === 0n) continue;
				owing.push({ channel, owed, secondsLeft: secondsLeft(channel, operator.graceSeconds(channel), nowSeconds) });
			}
			const beyond = own.filter((channel) => operator.graceSeconds(channel) === undefined);
			unread.push(...beyond);
			runs.push(await operator.settle(beyond, { dryRun }));
		}
		owing.sort(bySecondsLeftThenValue);
		const worth = owing.filter(({ owed }) => owed >= minValue);
		runs.push(left(owing.filter(({ owed }) => owed < minValue)));
		const progress = dryRun ? {} : { progress: (row: SettlementRunRow) => run.say(progressLine(row)) };
		// What the payer may soon withdraw goes first.
		for (const isUrgent of [true, false]) {
			for (const [payee, operator] of operators) {
				const chosen = worth.filter(
					({ channel, secondsLeft }) => channel.payee === payee && (secondsLeft !== undefined) === isUrgent,
				);
				const channels = chosen.map(({ channel }) => channel);
				if (channels.length > 0) runs.push(await operator.settle(channels, { dryRun, force: true, ...progress }));
			}
		}
		const channels = new Map([...unread, ...owing.map(({ channel }) => channel)].map((one) => [one.channelId, one]));
		const outcomes = new Map(runs.flatMap(({ rows }) => rows).map((row) => [row.channelId, row]));
		const rows = [
			...owing,
			...unread.map((channel): Owing => ({ channel, owed: unsettled(channel), secondsLeft: undefined })),
		].flatMap((one) => {
			const outcome = outcomes.get(one.channel.channelId);
			return outcome === undefined ? [] : [rescueRow(run, one, outcome)];
		});
		const sending = worth.map(({ channel }) => channel);
		const parts = {
			chainId: chain.chainId,
			payees: [...operators.keys()],
			dryRun,
			runs,
			channels,
			others: workshop.others,
			damaged: tellDamaged(run, store),
			...(dryRun && { estimate: await estimate(chain.client, "settle", sending, relayed) }),
		};
		return writeReport(run, parts, { columns: COLUMNS, rows });
	});
}

async function candidates({ store, chain }: Workshop, payee: string): Promise<readonly Channel[]> {
	const found: Channel[] = [];
	for await (const channel of store.channels()) {
		if (channel.chainId === chain.chainId && channel.payee === payee && mayOwe(channel)) found.push(channel);
	}
	return found;
}

/** Unix seconds of the latest block: grace periods end by the chain's clock. */
async function chainTime({ client }: Chain): Promise<number> {
	const { timestamp } = await client.getBlock();
	return Number(timestamp);
}

function secondsLeft(channel: Channel, graceSeconds: number | undefined, nowSeconds: number): number | undefined {
	const { closeRequestedAt } = chainNow(channel);
	if (closeRequestedAt === 0 || graceSeconds === undefined) return undefined;
	return Math.max(0, closeRequestedAt + graceSeconds - nowSeconds);
}

function bySecondsLeftThenValue(a: Owing, b: Owing): number {
	const left = (a.secondsLeft ?? Number.MAX_SAFE_INTEGER) - (b.secondsLeft ?? Number.MAX_SAFE_INTEGER);
	if (left !== 0) return left;
	return a.owed === b.owed ? 0 : a.owed > b.owed ? -1 : 1;
}

function left(dust: readonly Owing[]): SettlementRun {
	const rows = dust.map(({ channel, owed }): SettlementRunRow => {
		const { channelId, payer } = channel;
		return { channelId, payer, unsettled: owed, outcome: "uneconomic", reason: "less than --min-value" };
	});
	return { rows, transactions: 0, settled: 0, skipped: rows.length };
}

function rescueRow(run: Run, { channel, secondsLeft }: Owing, outcome: SettlementRunRow): RescueRow {
	const { deposit, settledOnChain, closeRequestedAt } = chainNow(channel);
	return {
		...reportRow(run, outcome, channel),
		state: statusOf(channel),
		deposit: String(deposit),
		acceptedCumulative: String(channel.acceptedCumulative),
		settledOnChain: String(settledOnChain),
		closeRequestedAt,
		secondsLeft: secondsLeft ?? null,
	};
}

const COLUMNS: readonly Column<RescueRow>[] = [
	{ title: "channel", width: 13, text: ({ channelId }) => shortHex(channelId) },
	{ title: "payer", width: 13, text: ({ payer }) => shortHex(payer) },
	{ title: "token", width: 13, text: ({ token }) => shortHex(token) },
	{ title: "deposit", width: 12, right: true, text: ({ deposit }) => deposit },
	{ title: "accepted", width: 12, right: true, text: ({ acceptedCumulative }) => acceptedCumulative },
	{ title: "settled", width: 12, right: true, text: ({ settledOnChain }) => settledOnChain },
	{ title: "owed", width: 12, right: true, text: ({ unsettled }) => unsettled },
	{ title: "state", width: 15, text: ({ state }) => state },
	{
		title: "time left",
		width: 9,
		right: true,
		text: ({ secondsLeft }) => (secondsLeft === null ? "" : duration(secondsLeft)),
	},
	{ title: "outcome", width: 12, text: ({ outcome }) => outcome },
	{ title: "transaction", width: 13, text: ({ txHash }) => (txHash === undefined ? "" : shortHex(txHash)) },
	{ title: "reason", width: 10, text: ({ reason = "" }) => reason },
];
