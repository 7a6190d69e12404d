import type { Hex } from "viem";
import { requestCloseCall } from "../../escrow/calls.ts";
import { readEscrow } from "../../escrow/reads.ts";
import { AUTHORIZATION, parseCredential } from "../../protocol/index.ts";
import { bookChecks, figures, readBooks } from "./books.ts";
import { advance } from "./chainControl.ts";
import { payAll } from "./channelOutcome.ts";
import type { DemoOptions } from "./demo.ts";
import { startFaultyRpc } from "./faultyRpc.ts";
import { check, type Outcome } from "./report.ts";
import type { ServerVariation } from "./serverSettings.ts";
import { until } from "./until.ts";
import type { World } from "./world.ts";

/** How often the server asks the chain for news. */
const POLL_MS = 1_000;

export const REQUEST_CLOSE_SERVER: ServerVariation = {
	watch: { pollMs: POLL_MS },
	// D2: nothing is sold on what was read longer than a poll ago, also when the node does not answer the next one.
	limits: { maxChainStateAgeMs: POLL_MS },
	tell: ["onVoucher"],
};

/** Which calls fail is the same each time. */
const SEED = 20_250_611;

type Variant = Readonly<{
	name: string;
	channelId: Hex;
	requests: number;
	ok: number;
	/** Tries of the payer after its request that were not served. */
	refused: number;
	settledAfterSeconds: number;
	/** Vouchers that were accepted later than one poll after the request. */
	acceptedAfterRequest: number;
}>;

/**
 * A payer owes and asks the chain to close its channel, which takes its deposit back after the grace period unless the server is
 * faster. It is, and takes no vouchers any more: while it runs, when its node fails half of all calls, and when it was down.
 */
export async function requestCloseScenario(
	world: World,
	{ requests: wanted, concurrency }: Pick<DemoOptions, "requests" | "concurrency">,
	progress: (text: string) => void,
): Promise<Outcome> {
	const { chain, escrow } = world;
	const { closeGraceSeconds: graceSeconds } = await readEscrow(chain.client, escrow, chain.chainId);
	const faulty = await startFaultyRpc(chain.url, SEED);
	const each = Math.max(1, Math.floor(wanted / 3));
	const startedAt = performance.now();
	const play = (name: string, around: Around) => {
		progress(`${name}: a payer pays ${each} requests and asks the chain to close`);
		return playVariant(world, { name, each, concurrency }, around);
	};
	try {
		const running = await play("the server runs", (request) => request());
		await world.restartServer({ rpcUrl: faulty.url });
		const failing = await play(`its node fails half of all calls (seed ${SEED})`, (request) => {
			faulty.failing(0.5);
			return request();
		});
		const rpcCalls = faulty.counts();
		faulty.failing(0);
		// The last one: it leaves the chain's clock ahead.
		const down = await play("the server is down", async (request) => {
			await world.server.stop();
			await request();
			await advance(chain.client, Math.floor(graceSeconds / 4));
			await world.restartServer({ rpcUrl: chain.url });
		});
		const secondsPaid = (performance.now() - startedAt) / 1_000;
		return await outcomeOf(world, [running, failing, down], { graceSeconds, secondsPaid, rpcCalls });
	} finally {
		await faulty.stop();
	}
}

/** Sends the request to close, with what happens around it. */
type Around = (request: () => Promise<void>) => Promise<void>;

async function playVariant(
	world: World,
	{ name, each, concurrency }: Readonly<{ name: string; each: number; concurrency: number }>,
	around: Around,
): Promise<Variant> {
	const [account] = await world.addPayers(1, { gas: true });
	if (account === undefined) throw new Error("there is no payer");
	const agent = world.agent({ account, retry: { retries: 0 }, fetch: openingOnce() });
	const pay = () => agent.fetch(`${world.server.url}/session`);
	const paid = await payAll(pay, each, concurrency);
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("the payer has no channel");
	const { channelId } = channel;
	let requestedAt = 0;
	await around(async () => {
		await world.send(account, requestCloseCall(world.escrow, channelId));
		requestedAt = Date.now();
	});

	let accepted = 0;
	let refused = 0;
	await until(`${name}: the channel was closed`, async () => {
		const { finalized } = await world.channelOnChain(channelId);
		const response = await pay().catch(() => undefined);
		await response?.arrayBuffer();
		if (response?.ok) accepted++;
		else refused++;
		return finalized && refused > 0;
	});
	const events = await world.eventsOf(channelId);
	const secondsOf = async (wanted: string) => {
		const event = events.find((one) => one.name === wanted);
		if (event === undefined) throw new Error(`the escrow tells of no ${wanted}`);
		return world.timestamp(event.blockNumber);
	};
	const late = world.server.events.filter((one) => one.channelId === channelId && one.at > requestedAt + POLL_MS);
	return {
		name,
		channelId,
		requests: each + accepted,
		ok: paid + accepted,
		refused,
		settledAfterSeconds: (await secondsOf("ChannelClosed")) - (await secondsOf("CloseRequested")),
		acceptedAfterRequest: late.length,
	};
}

/** A `fetch` that lets one channel be opened and no other: the payer goes on trying with the one that it asked to close. */
function openingOnce(): typeof fetch {
	let opened: unknown;
	return async (input, init) => {
		const request = new Request(input, init);
		const credential = request.headers.get(AUTHORIZATION);
		const { payload = {} } = credential === null ? {} : parseCredential(credential);
		if (payload.action === "open") {
			opened ??= payload.channelId;
			if (payload.channelId !== opened) return new Response(null, { status: 409 });
		}
		return fetch(request);
	};
}

type Facts = Readonly<{ graceSeconds: number; secondsPaid: number; rpcCalls: object }>;

async function outcomeOf(
	world: World,
	variants: readonly Variant[],
	{ secondsPaid, ...facts }: Facts,
): Promise<Outcome> {
	const { graceSeconds } = facts;
	const sum = (of: (variant: Variant) => number) => variants.reduce((total, variant) => total + of(variant), 0);
	const requests = sum((variant) => variant.requests);
	const ok = sum((variant) => variant.ok);
	const settledAfterSeconds = Math.max(...variants.map((variant) => variant.settledAfterSeconds));
	const acceptedAfterRequest = sum((variant) => variant.acceptedAfterRequest);
	const books = await readBooks(
		world,
		variants.map(({ channelId }) => channelId),
	);
	const outcome = await figures(world, books, { scenario: "request-close", requests, ok, secondsPaid });
	const unpaid = books.channels.filter((one) => one.settledOnChain !== one.acceptedCumulative);
	return {
		...outcome,
		...facts,
		pollSeconds: POLL_MS / 1_000,
		settledAfterSeconds,
		acceptedAfterRequest,
		variants,
		checks: [
			check("every request was served", requests, ok),
			...variants.flatMap(({ name, ...variant }) => [
				check(`${name}: settled before half the grace period`, true, variant.settledAfterSeconds < graceSeconds / 2),
				check(`${name}: vouchers accepted later than one poll after the request`, 0, variant.acceptedAfterRequest),
				check(`${name}: the payer tried and was refused`, true, variant.refused > 0),
			]),
			check("channels that were not settled in full", 0, unpaid.length),
			check(
				"every channel is closed",
				true,
				books.channels.every(({ finalized }) => finalized),
			),
			...bookChecks(books),
		],
	};
}
