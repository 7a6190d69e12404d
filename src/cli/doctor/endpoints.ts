/** The chain's RPCs: whether they answer, for which chain, and how fresh they are. And the machine's clock beside the chain's. */
import { createPublicClient, type PublicClient } from "viem";
import { type Connection, connectTo } from "../shared/connection.ts";
import { describeFailure } from "../shared/failure.ts";
import { originOf } from "../shared/secrets.ts";
import { duration } from "../shared/words.ts";
import { type Check, fail, ok, skip, warn } from "./check.ts";

/** How old a head may be before it is remarkable, and before nothing should be sold on it. */
const OLD_SECONDS = 60;
const STOPPED_SECONDS = 300;

/** How far the chain may be ahead of the clock: validators' clocks are not ours. */
const AHEAD_SECONDS = 15;

/** How far endpoints may be apart. */
const LAG_BLOCKS = 10n;

/** How long an endpoint may take to answer. A server that waits longer serves nobody. */
const ANSWER_MS = 10_000;

/** Their blocks come when there is a transaction, and their clocks are moved by hand. */
const DEVELOPMENT_CHAINS: readonly number[] = [31_337, 1_337];

/** An endpoint that answers. */
export type Endpoint = Readonly<{
	name: string;
	client: PublicClient;
	chainId: number;
	head: Readonly<{ number: bigint; timestamp: number }>;
}>;

export type Endpoints = Readonly<{ checks: readonly Check[]; answering: readonly Endpoint[]; close: () => void }>;

/** Asks every endpoint. */
export async function askEndpoints(urls: readonly string[], chainId: number | undefined): Promise<Endpoints> {
	const checks: Check[] = [];
	const answering: Endpoint[] = [];
	const connections: Connection[] = [];
	for (const [at, url] of urls.entries()) {
		const name = urls.length === 1 ? "rpc" : `rpc ${at + 1}`;
		const connection = connectTo(url, { timeoutMs: ANSWER_MS, retries: 0 });
		connections.push(connection);
		const client = createPublicClient({ transport: connection.transport, cacheTime: 0 });
		try {
			const [served, { number, timestamp }] = await Promise.all([client.getChainId(), client.getBlock()]);
			const head = { number, timestamp: Number(timestamp) };
			const expected = chainId ?? answering[0]?.chainId ?? served;
			if (served !== expected) {
				const hint = "fix its URL, or the chain id";
				checks.push(fail(name, `${originOf(url)} serves chain ${served}, not ${expected}`, hint, { chainId: served }));
				continue;
			}
			checks.push(
				ok(name, `${originOf(url)} serves chain ${served}`, { chainId: served, blockNumber: Number(number) }),
			);
			answering.push({ name, client: client as PublicClient, chainId: served, head });
		} catch (error) {
			checks.push(fail(name, describeFailure(error, [url]).message, "use another endpoint"));
		}
	}
	const close = () => {
		for (const connection of connections) connection.close();
	};
	return { checks: [...checks, ...headChecks(answering)], answering, close };
}

function headChecks(endpoints: readonly Endpoint[]): readonly Check[] {
	const best = endpoints.reduce((highest, { head }) => (head.number > highest ? head.number : highest), 0n);
	return endpoints.map(({ name, chainId, head }): Check => {
		const title = `${name} head`;
		const age = Math.floor(Date.now() / 1_000) - head.timestamp;
		const detail = `block ${head.number}, ${duration(age)} old`;
		const values = { blockNumber: Number(head.number), ageSeconds: age };
		if (best - head.number > LAG_BLOCKS) {
			const behind = `${detail}; ${best - head.number} blocks behind another endpoint`;
			return warn(title, behind, "use an endpoint that keeps up", values);
		}
		if (DEVELOPMENT_CHAINS.includes(chainId) || age <= OLD_SECONDS) return ok(title, detail, values);
		const hint = "it may have stopped following the chain: use another endpoint, or wait for the next block";
		return age > STOPPED_SECONDS ? fail(title, detail, hint, values) : warn(title, detail, hint, values);
	});
}

/** The clock decides whether challenges and authorizations are still good; the chain's decides when a payer can withdraw. */
export function clockCheck(endpoints: readonly Endpoint[], nowMs = Date.now()): Check {
	const name = "clock";
	const [newest] = endpoints.toSorted((a, b) => b.head.timestamp - a.head.timestamp);
	if (newest === undefined) return skip(name, "no chain to compare it with");
	const drift = Math.floor(nowMs / 1_000) - newest.head.timestamp;
	const values = { driftSeconds: drift };
	if (DEVELOPMENT_CHAINS.includes(newest.chainId)) {
		return ok(name, `${drift} s after the latest block of a development chain, whose clock may be anywhere`, values);
	}
	const hint = "set the machine's clock by NTP";
	if (drift < -AHEAD_SECONDS) {
		return fail(name, `this machine's clock is ${-drift} s behind the latest block`, hint, values);
	}
	if (drift > OLD_SECONDS) {
		const detail = `this machine's clock is ${drift} s ahead of the latest block`;
		return warn(name, detail, `if the chain has had blocks since, ${hint}`, values);
	}
	return ok(name, `${drift} s after the latest block`, values);
}
