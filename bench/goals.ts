/** What each bench has to reach, and how the report says it: the one place for both (issue 8). */

/** The report's members, as `--json` prints them. Null is what was not measured. */
export const MEMBERS = {
	sessionVerify: ["ours", "mppx", "x402", "vsMppx", "vsX402"],
	sessionHttp: ["ours", "x402", "unpaid", "vsX402", "aheadVsX402", "addedMicros", "paidOverUnpaid"],
	twoCores: ["ratio"],
	millionChannels: ["ratio", "rssMb", "startSeconds"],
	clientSign: ["ours", "mppx", "vsMppx"],
	stream: ["unitsPerSecond", "rssMb"],
	fallback: ["vsX402"],
} as const;

export type Section = keyof typeof MEMBERS;
export type Member<S extends Section> = (typeof MEMBERS)[S][number];
export type Report = { readonly [S in Section]: Readonly<Record<Member<S>, number | null>> };
/** What one bench tells of it. */
export type Sections = { readonly [S in Section]?: Readonly<Partial<Record<Member<S>, number | null>>> };

/** A goal is for the figure as it is printed. */
export type Goal = {
	[S in Section]: Readonly<{ section: S; member: Member<S>; label: string; unit?: string } & Bound>;
}[Section];

type Bound = { atLeast: number } | { atMost: number } | { below: number };

export const GOALS: readonly Goal[] = [
	{ section: "sessionVerify", member: "vsMppx", label: "vouchers verified, against mppx", unit: "x", atLeast: 40 },
	{ section: "sessionVerify", member: "vsX402", label: "vouchers verified, against x402", unit: "x", atLeast: 25 },
	{ section: "sessionHttp", member: "vsX402", label: "paid requests, against x402 on Hono", unit: "x", atLeast: 22 },
	{
		section: "sessionHttp",
		member: "aheadVsX402",
		label: "vouchers signed ahead, against x402 on Hono",
		unit: "x",
		atLeast: 40,
	},
	{ section: "sessionHttp", member: "addedMicros", label: "CPU added to an unpaid route", unit: " µs", atMost: 75 },
	{ section: "sessionHttp", member: "paidOverUnpaid", label: "paid requests to unpaid ones", atLeast: 0.2 },
	{ section: "twoCores", member: "ratio", label: "two cores against one", unit: "x", atLeast: 1.5 },
	{ section: "millionChannels", member: "ratio", label: "a million channels against 200", atLeast: 0.6 },
	{ section: "millionChannels", member: "rssMb", label: "memory with a million channels", unit: " MB", below: 350 },
	{ section: "millionChannels", member: "startSeconds", label: "start with a million channels", unit: " s", below: 2 },
	{ section: "clientSign", member: "vsMppx", label: "headers signed, against mppx", unit: "x", atLeast: 8 },
	{ section: "stream", member: "unitsPerSecond", label: "metered units a second", atLeast: 50_000 },
	{
		section: "fallback",
		member: "vsX402",
		label: "without libsecp256k1, against x402 on Hono",
		unit: "x",
		atLeast: 1.3,
	},
];

/** A report of nothing but nulls. */
export function emptyReport(): Report {
	return Object.fromEntries(
		Object.entries(MEMBERS).map(([section, members]) => [
			section,
			Object.fromEntries(members.map((member) => [member, null])),
		]),
	) as Report;
}

/** Whether a goal is met; undefined where its figure was not measured. */
export function isMet(goal: Goal, report: Report): boolean | undefined {
	const figure = figureFor(goal, report);
	if (figure === null) return undefined;
	if ("atLeast" in goal) return figure >= goal.atLeast;
	return "atMost" in goal ? figure <= goal.atMost : figure < goal.below;
}

export function figureFor({ section, member }: Goal, report: Report): number | null {
	return (report[section] as Readonly<Record<string, number | null>>)[member] ?? null;
}

/** For example `>= 40x`. */
export function wanted(goal: Goal): string {
	const [sign, bound] =
		"atLeast" in goal ? [">=", goal.atLeast] : "atMost" in goal ? ["<=", goal.atMost] : ["<", goal.below];
	return `${sign} ${withUnit(goal, bound)}`;
}

export function withUnit({ unit = "" }: Goal, figure: number): string {
	return `${figure.toLocaleString("en-US")}${unit}`;
}
