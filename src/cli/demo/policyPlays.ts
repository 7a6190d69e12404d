/** What the agent of the scenario `policy` is told, limit by limit, and what it tries then. */
import type { Address } from "viem";
import type { PaymentPolicy } from "../../client/index.ts";
import type { SignedValue } from "./signatureSpy.ts";
import { PRICE } from "./world.ts";

/** What each limit allows, in base units, unless it is against everything. */
export const LIMIT = 5n * PRICE;

type Currency = NonNullable<PaymentPolicy["currencies"]>[number];

/** The window of the calendar that a limit is for. */
export type Window = "hour" | "day" | "month" | "ever";

/** What a play can do, one thing after the other. */
export type Stage = Readonly<{
	/** The host that is limited, and another one of the same payee. */
	here: string;
	there: string;
	/** Asks so often, and says how many were served; the others were refused by the policy. */
	pay(host: string, times: number, path?: string): Promise<number>;
	/** Reads a metered answer until it ends, or the policy ends it. */
	stream(host: string, tokens: number): Promise<void>;
	/** Another process of the agent opens the wallet. */
	reopen(): Promise<void>;
	/** Every clock goes on to the beginning of the next window. */
	next(window: Exclude<Window, "ever">): Promise<void>;
	/** Closes the agent's channels. */
	close(): Promise<void>;
	/** Notes that something came out otherwise than it has to. */
	expect(what: string, expected: number, actual: number): void;
}>;

/** One limit, and a course that runs into it. */
export type Play = Readonly<{
	/** Where the policy has it. */
	name: string;
	/** In base units; `maxChannels` counts channels. */
	limit: bigint;
	/** What the limit is about. Default: what is signed away. */
	counts?: "deposits" | "channels";
	/** How much is signed in the end of what counts together: all that is allowed, or nothing. */
	signed: bigint;
	/** With `tokens` it has no currencies. */
	policy?: Partial<PaymentPolicy>;
	currency?: Partial<Currency>;
	/** What counts together. */
	groupOf: (value: SignedValue) => string | undefined;
	approve?: boolean;
	course(stage: Stage): Promise<void>;
}>;

const LENGTH_OF = { hour: 13, day: 10, month: 7, ever: 0 } as const;

function windowOf(window: Window, atMs: number): string {
	return new Date(atMs).toISOString().slice(0, LENGTH_OF[window]);
}

/** All of them. */
export function plays(
	{ here, there }: Pick<Stage, "here" | "there">,
	{ payee, token, escrow, chainId }: Readonly<{ payee: Address; token: Address; escrow: Address; chainId: number }>,
): readonly Play[] {
	const windows = ["hour", "day", "month", "ever"] as const;
	/** Tokens by themselves, in place of currencies. */
	const bounds = { maxPrice: PRICE, maxDeposit: 100n * PRICE };
	return [
		{
			name: "request",
			limit: PRICE - 1n,
			signed: 0n,
			currency: { limits: { request: PRICE - 1n } },
			groupOf: ({ request }) => String(request),
			course: refusedAlways,
		},
		{
			name: "request (a whole stream)",
			limit: LIMIT,
			signed: LIMIT,
			currency: { maxStream: 100n * PRICE, limits: { request: LIMIT } },
			groupOf: ({ request }) => String(request),
			course: ({ stream }) => stream(here, 50),
		},
		{
			name: "maxStream",
			limit: LIMIT,
			signed: LIMIT,
			currency: { maxStream: LIMIT },
			groupOf: ({ request }) => String(request),
			course: ({ stream }) => stream(here, 50),
		},
		nothing("maxPrice", {}, { maxPrice: PRICE - 1n }),
		nothing("maxDeposit", {}, { maxDeposit: PRICE - 1n }),
		{
			name: "maxTotal",
			limit: LIMIT,
			counts: "deposits",
			signed: LIMIT,
			// Less at a time: the channel is topped up on the way.
			currency: { maxDeposit: 3n * PRICE, maxTotal: LIMIT },
			groupOf: () => "the one channel",
			async course({ pay, reopen, expect }) {
				expect("served", 5, await pay(here, 7));
				await reopen();
				expect("served for another process", 0, await pay(here, 1));
			},
		},
		{
			name: "maxChannels",
			limit: 1n,
			counts: "channels",
			signed: 1n,
			policy: { maxChannels: 1 },
			groupOf: ({ atMs }) => windowOf("hour", atMs),
			async course({ pay, reopen, close, next, expect }) {
				expect("served here", 2, await pay(here, 2));
				expect("served there, which takes another channel", 0, await pay(there, 1));
				await reopen();
				expect("served there for another process", 0, await pay(there, 1));
				await close();
				await next("hour");
				expect("served there when the first channel is closed", 1, await pay(there, 1));
			},
		},
		...windows.map((window) => play("host", window, ({ host }) => host, 1)),
		...windows.map((window) => play("payee", window, () => payee, 0)),
		...windows.map((window) => play("category.models", window, ({ host }) => (host === here ? host : undefined), 1)),
		...windows.map((window) => play("total", window, () => "all", 0)),
		{
			name: "channel.ever",
			limit: LIMIT,
			signed: LIMIT,
			currency: { limits: { channel: { ever: LIMIT } } },
			groupOf: ({ channelId }) => channelId,
			async course({ pay, close, expect }) {
				expect("served on the first channel", 5, await pay(here, 7));
				await close();
				expect("served on the next one", 5, await pay(here, 6));
			},
		},
		{
			name: "approveAbove",
			limit: PRICE - 1n,
			signed: 0n,
			approve: false,
			currency: { approveAbove: PRICE - 1n },
			groupOf: ({ request }) => String(request),
			async course({ pay, expect }) {
				expect("charges that were served", 0, await pay(here, 2, "/charge"));
				expect("requests that were served", 0, await pay(here, 1));
			},
		},
		nothing("paused", { paused: "by its owner" }),
		nothing("dryRun", { dryRun: true }),
		nothing("denied.hosts", { denied: { hosts: [new URL(`http://${here}`).hostname] } }),
		nothing("denied.payees", { denied: { payees: [payee] } }),
		nothing("denied.tokens", { denied: { tokens: [token] } }),
		nothing("denied.chainIds", { denied: { chainIds: [chainId] } }),
		nothing("denied.escrows", { denied: { escrows: [escrow] } }),
		nothing("hosts", { hosts: [there] }),
		nothing("payees", { payees: [escrow] }),
		nothing("tokens", { ...bounds, tokens: [escrow], chainIds: [chainId] }),
		nothing("chainIds", { ...bounds, tokens: [token], chainIds: [chainId + 1] }),
		nothing("currencies.tokens", {}, { tokens: [{ chainId, address: escrow }] }),
		nothing("escrows", { escrows: [token] }),
		nothing("categories.models.isDenied", { categories: { models: { hosts: [here], isDenied: true } } }),
	];

	/** A limit with a window: used up here, asked for there as well, by another process, and when the window is over. */
	function play(
		scope: "host" | "payee" | "category.models" | "total",
		window: Window,
		subjectOf: (value: SignedValue) => string | undefined,
		servedThere: number,
	): Play {
		const its = { [window]: LIMIT };
		return {
			name: `${scope}.${window}`,
			limit: LIMIT,
			signed: LIMIT,
			currency: { limits: scope === "category.models" ? { category: { models: its } } : { [scope]: its } },
			groupOf: (value) => {
				const subject = subjectOf(value);
				return subject && `${subject} ${windowOf(window, value.atMs)}`;
			},
			async course({ pay, reopen, next, expect }) {
				expect("served here", 5, await pay(here, 7));
				expect("served there", servedThere, await pay(there, 1));
				await reopen();
				expect("served for another process", 0, await pay(here, 1));
				await next(window === "ever" ? "month" : window);
				expect("served when it has begun anew", window === "ever" ? 0 : 1, await pay(here, 1));
			},
		};
	}

	/** A rule that is against everything. */
	function nothing(name: string, policy: Partial<PaymentPolicy>, currency: Partial<Currency> = {}): Play {
		return { name, limit: 0n, signed: 0n, policy, currency, groupOf: () => "all", course: refusedAlways };
	}

	async function refusedAlways({ pay, reopen, expect }: Stage): Promise<void> {
		expect("served", 0, await pay(here, 2));
		await reopen();
		expect("served for another process", 0, await pay(here, 1));
	}
}
