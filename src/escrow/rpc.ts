import {
	createPublicClient,
	fallback,
	LimitExceededRpcError,
	MethodNotFoundRpcError,
	MethodNotSupportedRpcError,
	type PublicClient,
	ResourceUnavailableRpcError,
	type Transport,
} from "viem";
import { createEndpoint, type Endpoint, type EndpointRules, isAnswer, isAnswerToSending } from "./endpoint.ts";

export { EndpointError } from "./endpointError.ts";

export type ConnectChainOptions = Readonly<{
	/** `http`, `https`, `ws` or `wss`; the first that works is used. They can hold keys, and are in no message. */
	urls: readonly string[];
	/** The chain that every endpoint has to serve. */
	chainId: number;
	/** How long an endpoint may take for one answer, in ms. Default 10,000. */
	timeoutMs?: number;
	/** How often a call that failed at every endpoint is tried again. Default 2. */
	retries?: number;
	/** For what viem polls by itself, in ms. Default 4,000. */
	pollingMs?: number;
	/** An endpoint whose head is older is left out. Default: heads may be of any age. */
	maxHeadAgeSeconds?: number;
	/** An endpoint whose head is further behind another one's is left out. Default 10. */
	maxHeadLagBlocks?: number;
	/** For how long an endpoint is left out, in ms. Default 30,000. */
	recheckMs?: number;
	/** Unix milliseconds. */
	now?: () => number;
}>;

/** What was given can't be URLs of a chain's endpoints. The message does not repeat them. */
export class RpcUrlError extends TypeError {
	override readonly name = "RpcUrlError";
	readonly code = "RPC_URL";
}

const connected = new WeakMap<PublicClient, readonly Endpoint[]>();

/**
 * A client of a chain over one endpoint or several: each is checked for its chain id, and left out for a while when its
 * head is too old or too far behind. Nothing is asked before the first call. With one WebSocket endpoint, or a WebSocket
 * as the first of several, new blocks are heard of by subscription. End it with {@link disconnectChain}.
 *
 * @throws RpcUrlError when a URL is none, or there is none
 * @throws EndpointError from calls, when the last endpoint that was tried is left out
 * @example
 * const client = connectChain({ urls: ["https://a.example/KEY", "wss://b.example"], chainId: 8453, maxHeadAgeSeconds: 60 });
 */
export function connectChain(options: ConnectChainOptions): PublicClient {
	const { urls, chainId, timeoutMs = 10_000, retries = 2, pollingMs = 4_000 } = options;
	assertUrls(urls);
	const rules: EndpointRules = {
		chainId,
		timeoutMs,
		// Several endpoints are each tried once, then all of them again: a silent one must not cost all its attempts first.
		retries: urls.length === 1 ? retries : 0,
		maxHeadAgeSeconds: options.maxHeadAgeSeconds,
		maxHeadLagBlocks: options.maxHeadLagBlocks ?? 10,
		recheckMs: options.recheckMs ?? 30_000,
		now: options.now ?? Date.now,
	};
	const endpoints: readonly Endpoint[] = urls.map((url, index) =>
		createEndpoint(url, index + 1, rules, () => highest(endpoints.filter((_, other) => other !== index))),
	);
	const transports = endpoints.map(({ transport }) => transport);
	const [only] = transports;
	const transport: Transport =
		transports.length === 1 && only !== undefined
			? only
			: fallback(transports, { retryCount: retries, shouldThrow: isFinal });
	const client = createPublicClient({ transport, cacheTime: 0, pollingInterval: pollingMs }) as PublicClient;
	connected.set(client, endpoints);
	return client;
}

/**
 * Closes the WebSockets of a client made by {@link connectChain}, which else keep the process alive. First stop what
 * watches with it. A later call opens them again.
 */
export async function disconnectChain(client: PublicClient): Promise<void> {
	await Promise.all((connected.get(client) ?? []).map((endpoint) => endpoint.close()));
}

function highest(endpoints: readonly Endpoint[]): bigint | undefined {
	const heads = endpoints.map((endpoint) => endpoint.head()).filter((head) => head !== undefined);
	return heads.reduce<bigint | undefined>((best, head) => (best === undefined || head > best ? head : best), undefined);
}

function assertUrls(urls: readonly string[]): void {
	if (urls.length === 0) throw new RpcUrlError("no RPC URL was given; give one or several");
	for (const [index, url] of urls.entries()) {
		if (URL.canParse(url) && /^(https?|wss?):$/.test(new URL(url).protocol)) continue;
		throw new RpcUrlError(`RPC URL ${index + 1} is none; it begins with http, https, ws or wss`);
	}
}

/** Refusals that are of the endpoint and not of the chain: another one may well answer. */
const ENDPOINTS_OWN = [
	LimitExceededRpcError,
	MethodNotFoundRpcError,
	MethodNotSupportedRpcError,
	ResourceUnavailableRpcError,
];

/** Whether a failure is the chain's own word, a revert or what a node says of a transaction: no other one has to be asked. */
function isFinal(error: Error): boolean {
	if (!isAnswer(error) || ENDPOINTS_OWN.some((kind) => error instanceof kind)) return false;
	return isAnswerToSending(error) || /revert|gas required exceeds/i.test(error.message);
}
