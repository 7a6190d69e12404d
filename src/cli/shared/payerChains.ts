import type { PublicClient } from "viem";
import { connectChain, disconnectChain } from "../../escrow/rpc.ts";
import { askChainId } from "./chain.ts";
import type { Run } from "./command.ts";
import { UsageError } from "./exit.ts";

/** How often viem looks by itself, and the wallet for a receipt, in ms. */
const POLLING_MS = 1_000;

/** The payer's own nodes, by chain id; the first is that of the endpoint that was named first. */
export type PayerChains = Readonly<{ clients: ReadonlyMap<number, PublicClient>; close(): Promise<void> }>;

/** Nodes of whatever chains turn out to be needed. */
export type ChainsAsNeeded = Readonly<{ at(chainId: number): Promise<PublicClient>; close(): Promise<void> }>;

/**
 * Connects to a chain when it is first asked for, by those of all endpoints that serve it: which ones do is found out with the
 * first call, and an endpoint that is down by then may be back later. Which chains there will be need not be known beforehand.
 *
 * `at` throws UsageError where no URL was given. EndpointError comes from calls, where no endpoint serves the chain.
 */
export function chainsAsNeeded(urls: readonly string[] = []): ChainsAsNeeded {
	const clients = new Map<number, PublicClient>();
	return {
		async at(chainId) {
			if (urls.length === 0) throw missingRpc();
			const client = clients.get(chainId) ?? connectChain({ urls, chainId, pollingMs: POLLING_MS });
			clients.set(chainId, client);
			return client;
		},
		async close() {
			await Promise.all([...clients.values()].map(disconnectChain));
		},
	};
}

/**
 * Connects to the chains that a policy allows. Where it allows several, each endpoint is asked which one it serves; several of
 * one chain take each other's place.
 *
 * @throws UsageError when no endpoint serves any of them; what the first of those throws that don't answer, where none that
 *   does serves any of them
 */
export async function openPayerChains(
	run: Run,
	urls: readonly string[] = [],
	chainIds: readonly number[],
): Promise<PayerChains> {
	if (urls.length === 0) throw missingRpc();
	const [only, ...more] = chainIds;
	const byChain =
		only !== undefined && more.length === 0 ? new Map([[only, urls]]) : await grouped(run, urls, chainIds);
	const clients = new Map(
		[...byChain].map(([chainId, its]) => [chainId, connectChain({ urls: its, chainId, pollingMs: POLLING_MS })]),
	);
	return {
		clients,
		async close() {
			await Promise.all([...clients.values()].map(disconnectChain));
		},
	};
}

async function grouped(
	run: Run,
	urls: readonly string[],
	chainIds: readonly number[],
): Promise<ReadonlyMap<number, readonly string[]>> {
	const byChain = new Map<number, string[]>();
	const asked = await Promise.allSettled(urls.map((url) => askChainId([url])));
	for (const [at, answer] of asked.entries()) {
		const url = urls[at] ?? "";
		const name = `RPC endpoint ${at + 1}`;
		if (answer.status === "rejected") run.say(`warning: ${name} does not answer, and is left out`);
		else if (!chainIds.includes(answer.value))
			run.say(`warning: ${name} serves chain ${answer.value}, which the policy does not allow`);
		else byChain.set(answer.value, [...(byChain.get(answer.value) ?? []), url]);
	}
	if (byChain.size > 0) return byChain;
	// It may well serve one of them.
	const silent = asked.find((answer) => answer.status === "rejected");
	if (silent !== undefined) throw silent.reason;
	throw new UsageError(`none of the RPC endpoints serves a chain that the policy allows: ${chainIds.join(", ")}`);
}

function missingRpc(): UsageError {
	return new UsageError("the chain's RPC is missing: give --rpc <url>, or set SLUICE_RPC_URL");
}
