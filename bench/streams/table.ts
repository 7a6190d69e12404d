import type { Counts } from "./messages.ts";
import type { MemoryFigures, StreamsReport } from "./run.ts";

/** The report for people. */
export function streamsTable(report: StreamsReport): string {
	const { plan, delayMs, server, load, before, after } = report;
	const what =
		plan.pieces > 0
			? `${plan.streams} stream(s) of ${whole(plan.pieces)} pieces`
			: `${whole(plan.streams)} streams for ${plan.seconds} s, a piece every ${plan.pauseMs} ms`;
	const rows = [
		["machine", `${report.machine}; node ${report.node}; load average ${report.loadAverage.toFixed(1)}`],
		["run", `${what}; a voucher each ${plan.step} pieces, ${plan.blockUnits} units reserved at a time`],
		["channels opened", `${whole(plan.streams)} in ${report.secondsToOpen.toFixed(1)} s, by authorizations on chain`],
		["pieces a second", whole(report.piecesPerSecond)],
		["delivered / payers' books / server's ledger", paid(report)],
		["vouchers that a stream waited for", whole(report.vouchersWaitedFor)],
		["  from arrival until it goes on, ms", spread(delayMs)],
		["event loop's delay, p99, ms", report.loopDelayP99Ms.toFixed(1)],
		["of a processor: server, payers", `${percent(server.cpuShare)}, ${percent(load.cpuShare)}`],
		["server's heap after collections, MB", heap(server)],
		["server's resident size, MB", resident(server)],
		["payers' heap after collections, MB", heap(load)],
		["payers' resident size, MB", resident(load)],
		["listeners of a stream: at its first wait, at most", `${report.listenersAtFirst}, ${report.listenersAtMost}`],
		...(Object.keys(before) as (keyof Counts)[]).map((name) => [
			`${LABELS[name]} before, after`,
			`${before[name]}, ${after[name]}`,
		]),
	];
	const width = Math.max(...rows.map(([label = ""]) => label.length));
	return `${rows.map(([label = "", text = ""]) => `${label.padEnd(width)}  ${text}`).join("\n")}\n`;
}

const LABELS: Readonly<Record<keyof Counts, string>> = {
	meters: "meters",
	bodies: "bodies",
	waiting: "waiting for a voucher",
	streams: "streams of channels",
	timers: "timers",
	activeTimers: "timers that keep the process alive",
	abortSignals: "abort signals",
	sockets: "sockets",
};

function paid({ delivered, consumed, spent, unequal }: StreamsReport): string {
	return `${whole(delivered)} / ${whole(consumed)} / ${whole(spent)} units; ${unequal} channels differ`;
}

function spread({ median, p90, p99, most }: StreamsReport["delayMs"]): string {
	const of = (ms: number) => ms.toFixed(1);
	return `median ${of(median)}, p90 ${of(p90)}, p99 ${of(p99)}, most ${of(most)}`;
}

function heap({ heap }: MemoryFigures): string {
	return heap.map(megabytes).join("  ");
}

function resident({ rss, rssMost }: MemoryFigures): string {
	return `${rss.map(megabytes).join("  ")}; most ${megabytes(rssMost)}`;
}

function percent(share: number): string {
	return `${(100 * share).toFixed(0)} %`;
}

function megabytes(bytes: number): string {
	return (bytes / 1e6).toFixed(1);
}

function whole(figure: number): string {
	return figure.toLocaleString("en-US", { maximumFractionDigits: 0 });
}
