import { createPublicClient, type PublicClient } from "viem";
import { connectChain, disconnectChain } from "../../escrow/rpc.ts";
import { connectTo } from "./connection.ts";
import { UsageError } from "./exit.ts";

/** A chain that is asked, over one endpoint or several. An open WebSocket would keep the process from ending: `close` it. */
export type Chain = Readonly<{ client: PublicClient; chainId: number; close(): Promise<void> }>;

/** How often viem looks by itself, and the sender for a receipt, in ms. */
const POLLING_MS = 1_000;

/**
 * Connects to the chain that the endpoints serve.
 *
 * @param chainId refuses endpoints of other chains; without it, the chain is the one of the first endpoint that answers
 * @throws UsageError when no URL was given; EndpointError when they serve another chain
 */
export async function openChain(urls: readonly string[] = [], chainId?: number): Promise<Chain> {
	if (urls.length === 0) throw new UsageError("the chain's RPC is missing: give --rpc <url>, or set SLUICE_RPC_URL");
	const expected = chainId ?? (await askChainId(urls));
	const client = connectChain({ urls, chainId: expected, pollingMs: POLLING_MS });
	// Else a wrong one would only be noticed where there is something to do.
	if (chainId !== undefined) await client.getChainId();
	return { client, chainId: expected, close: () => disconnectChain(client) };
}

/** The chain of the first endpoint that answers. */
export async function askChainId(urls: readonly string[]): Promise<number> {
	let failure: unknown;
	for (const url of urls) {
		const { transport, close } = connectTo(url);
		try {
			return await createPublicClient({ transport }).getChainId();
		} catch (error) {
			failure = error;
		} finally {
			close();
		}
	}
	throw failure;
}
