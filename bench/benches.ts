/** All benches, in the order in which they run. */
import { bench as chargeVerify } from "./chargeVerify/bench.ts";
import { bench as clientSign } from "./clientSign/bench.ts";
import type { Section, Sections } from "./goals.ts";
import type { Bench } from "./lib/bench.ts";
import { bench as millionChannels } from "./millionChannels/bench.ts";
import { bench as sessionHttp } from "./sessionHttp/bench.ts";
import { bench as sessionVerify } from "./sessionVerify/bench.ts";
import { bench as settle } from "./settle/bench.ts";
import { bench as stream } from "./stream/bench.ts";
import { bench as twoCores } from "./twoCores/bench.ts";

/** A bench, and which members of the report are told by its result. */
export type Entry<Result = unknown> = Readonly<{
	bench: Bench<Result>;
	/** Of these; none where it is for its table and the details alone. */
	sections: readonly Section[];
	report(result: Result): Sections;
}>;

export const BENCHES: readonly Entry[] = [
	entry(sessionVerify, ["sessionVerify"], ({ ours, mppx, x402, vsMppx, vsX402 }) => ({
		sessionVerify: { ours: ours.perSecond, mppx: perSecond(mppx), x402: perSecond(x402), vsMppx, vsX402 },
	})),
	entry(
		sessionHttp,
		["sessionHttp", "fallback"],
		({ ours, x402, unpaid, vsX402, aheadVsX402, fallbackVsX402, addedMicros, paidOverUnpaid }) => ({
			sessionHttp: {
				ours: ours.perSecond,
				x402: perSecond(x402),
				unpaid: unpaid.perSecond,
				vsX402,
				aheadVsX402,
				addedMicros,
				paidOverUnpaid,
			},
			fallback: { vsX402: fallbackVsX402 },
		}),
	),
	entry(twoCores, ["twoCores"], ({ ratio }) => ({ twoCores: { ratio } })),
	entry(clientSign, ["clientSign"], ({ ours, mppx, vsMppx }) => ({
		clientSign: { ours: ours.perSecond, mppx: perSecond(mppx), vsMppx },
	})),
	entry(millionChannels, ["millionChannels"], ({ ratio, rssMb, startSeconds }) => ({
		millionChannels: { ratio, rssMb, startSeconds },
	})),
	entry(stream, ["stream"], ({ unitsPerSecond, rssMb }) => ({ stream: { unitsPerSecond, rssMb } })),
	forDetails(chargeVerify),
	forDetails(settle),
];

/** A bench that no member of the report is told by. */
function forDetails<Result>(bench: Bench<Result>): Entry {
	return entry(bench, [], () => ({}));
}

/** Forgets the type of its result, which nobody but itself looks at. */
export function entry<Result>(
	bench: Bench<Result>,
	sections: readonly Section[],
	report: (result: Result) => Sections,
): Entry {
	return { bench, sections, report } as Entry<Result> as Entry;
}

function perSecond(figures: Readonly<{ perSecond: number }> | null | undefined): number | null {
	return figures?.perSecond ?? null;
}
