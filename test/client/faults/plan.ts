/** What a schedule consists of. All of it follows from the seed and the schedule's number. */
import { Random } from "./random.ts";

/** Where an exchange is cut, in the order of its life. */
export const CUTS = [
	"beforeRequest",
	"inRequest",
	"afterRequest",
	"beforeResponse",
	"inHead",
	"afterHead",
	"inBody",
	"afterResponse",
] as const;
export type Cut = (typeof CUTS)[number];

/** How long something is held: until another one of its kind has overtaken it, but no longer than `ms`. */
export type Hold = Readonly<{ ms: number; untilOvertaken: boolean }>;

/** What happens to one request and its answer on their way. */
export type Fault = Readonly<{
	cut?: Cut;
	/** With a reset in place of an orderly end. */
	byReset?: boolean;
	/** Once more to the server: before, beside or after the one that is answered, or when so many others have passed. */
	copy?: "before" | "beside" | "after" | number;
	holdRequest?: Hold;
	holdResponse?: Hold;
}>;

/** What happens meanwhile, to the server or by the client. */
export type Happening =
	/** The server ends in order, and is back. */
	| "restart"
	/** It dies, and is back. */
	| "crash"
	/** It dies, and is back without its store. */
	| "forget"
	/** The same, and the channel was closed on chain: from then on it is 410. */
	| "gone"
	/** The price changes. */
	| "reprice"
	/** The client closes its channel. */
	| "close"
	/** The client loses its wallet, as a process that ends or is taken for dead, and another one goes on with that. */
	| "succeed";

export type Ask = Readonly<{ path: "/session" | "/priced" | "/charge"; method: "GET" | "POST"; afterMs: number }>;

/** Requests that are on their way at a time. */
export type Round = Readonly<{
	asks: readonly Ask[];
	/** After so many exchanges of the round. */
	happening?: Readonly<{ what: Happening; afterExchanges: number }>;
}>;

export type Schedule = Readonly<{
	seed: string;
	index: number;
	/** Which server: one that takes any step, or one that wants a least one (D3). */
	server: "plain" | "stepped";
	/** How much of a deposit the agent makes: `small` means top-ups. */
	deposit: "large" | "small";
	/** Where the agent's wallet is. */
	wallet: "memory" | "disk";
	/** With a client that has no channel yet. */
	isNew: boolean;
	/** Whether `/priced` costs more to begin with. */
	isDear: boolean;
	/** How much of what passes has a fault. */
	trouble: number;
	rounds: readonly Round[];
}>;

export function scheduleOf(seed: string, index: number): Schedule {
	const random = new Random(seed, index);
	const withCharges = random.chance(0.25);
	const happens = random.chance(0.3);
	const rounds = Array.from({ length: random.between(1, 2) }, (_, round): Round => {
		const asks = Array.from({ length: random.between(1, 4) }, () => askOf(random, withCharges));
		if (!happens || round > 0) return { asks };
		const what = random.weighted({ restart: 3, crash: 4, forget: 3, gone: 2, reprice: 5, close: 4, succeed: 5 });
		const reprices = what === "reprice";
		return {
			asks: reprices ? asks.map((ask) => (ask.path === "/session" ? { ...ask, path: "/priced" } : ask)) : asks,
			happening: { what, afterExchanges: random.between(0, 4) },
		};
	});
	return {
		seed,
		index,
		server: random.weighted({ plain: 3, stepped: 1 }),
		deposit: random.weighted({ large: 4, small: 1 }),
		wallet: random.weighted({ memory: 3, disk: 1 }),
		isNew: random.chance(0.12),
		isDear: random.chance(0.5),
		trouble: random.pick([0.15, 0.35, 0.6]),
		rounds,
	};
}

function askOf(random: Random, withCharges: boolean): Ask {
	const path = random.weighted({ "/session": 6, "/priced": 2, "/charge": withCharges ? 3 : 0 });
	return { path, method: random.pick(["GET", "GET", "POST"]), afterMs: random.pick([0, 0, 0, 1, 3]) };
}

/** What happens to one try of a request: named by the request and the number of the try, so that it is the same each time. */
export function faultOf({ seed, index, trouble }: Schedule, request: string, attempt: number): Fault {
	const random = new Random(seed, index, request, attempt);
	if (!random.chance(trouble)) return {};
	const hold = (): Hold => ({ ms: random.between(1, 8), untilOvertaken: random.chance(0.6) });
	return {
		...(random.chance(0.55) && { cut: random.pick(CUTS), byReset: random.chance(0.5) }),
		...(random.chance(0.3) && { copy: random.pick(["before", "beside", "after", random.between(1, 6)] as const) }),
		...(random.chance(0.3) && { holdRequest: hold() }),
		...(random.chance(0.3) && { holdResponse: hold() }),
	};
}
