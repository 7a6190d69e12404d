import { type EIP1193RequestFn, http, RpcError, RpcRequestError, TimeoutError, type Transport, webSocket } from "viem";
import { EndpointError } from "./endpointError.ts";
import { hideSecrets } from "./hideSecrets.ts";

/** What an endpoint has to be like. Internal. */
export type EndpointRules = Readonly<{
	chainId: number;
	timeoutMs: number;
	/** How often one call is tried at this endpoint before it fails there. */
	retries: number;
	maxHeadAgeSeconds: number | undefined;
	maxHeadLagBlocks: number;
	recheckMs: number;
	now: () => number;
}>;

/** One endpoint, checked. Internal. */
export type Endpoint = Readonly<{
	transport: Transport;
	/** The newest head that it has shown lately, unless it is left out. */
	head(): bigint | undefined;
	/** Closes its WebSocket, if it has one open. A later call opens another. */
	close(): Promise<void>;
}>;

/** How often an endpoint is asked anew for its chain id: behind one URL there can be another node any day. */
const CHAIN_CHECK_MS = 300_000;

/** How long a head that an endpoint has shown is held against the others. */
const HEAD_MEMORY_MS = 300_000;

type Call = Readonly<{ method: string; params?: unknown }>;
type Ask = (call: Call, options?: unknown) => Promise<unknown>;
type Socket = Readonly<{ close(): void; socket: Readonly<{ readyState: number }> }>;
type Subscription = Readonly<{ onError?: (error: unknown) => void }>;
/** What viem's WebSocket transport has besides. */
type SocketHolder = Partial<
	Readonly<{ getRpcClient(): Promise<Socket>; subscribe(subscription: Subscription): Promise<unknown> }>
>;

/** The state of an open WebSocket. */
const OPEN = 1;

/**
 * An endpoint that is asked for its chain id before its first call, and left out while it serves another chain or lags.
 *
 * @param others the newest head that any other endpoint has shown
 */
export function createEndpoint(
	url: string,
	place: number,
	rules: EndpointRules,
	others: () => bigint | undefined,
): Endpoint {
	const { chainId, timeoutMs, retries, maxHeadAgeSeconds, maxHeadLagBlocks, recheckMs, now } = rules;
	const isSocket = /^wss?:/i.test(url);
	const options = { timeout: timeoutMs, retryCount: retries };
	// viem's own reconnecting writes to the console, and the URL with it.
	const inner = isSocket ? webSocket(url, { ...options, reconnect: false }) : http(url, options);
	let chainGoodUntil = Number.NEGATIVE_INFINITY;
	let leftOut: Readonly<{ until: number; error: EndpointError }> | undefined;
	let checking: Promise<void> | undefined;
	let shown: Readonly<{ number: bigint; at: number }> | undefined;
	let opened: SocketHolder | undefined;

	const leaveOut = (code: EndpointError["code"], message: string): EndpointError => {
		const error = new EndpointError(code, place, message);
		leftOut = { until: now() + recheckMs, error };
		return error;
	};

	const assertChain = (ask: Ask): Promise<void> => {
		checking ??= ask({ method: "eth_chainId" })
			.then((answer) => {
				const served = Number(answer);
				if (served !== chainId) throw leaveOut("WRONG_CHAIN", `serves chain ${served}, not ${chainId}; fix its URL`);
				chainGoodUntil = now() + CHAIN_CHECK_MS;
			})
			.finally(() => {
				checking = undefined;
			});
		return checking;
	};

	const assertHead = ({ method, params }: Call, answer: unknown): void => {
		const head = headIn(method, params, answer);
		if (head === undefined) return;
		const { number, timestamp } = head;
		const ageSeconds = timestamp === undefined ? 0 : Math.floor(now() / 1_000) - timestamp;
		if (maxHeadAgeSeconds !== undefined && ageSeconds > maxHeadAgeSeconds) {
			throw leaveOut("HEAD_STALE", `shows a head that is ${ageSeconds} s old; it is left out for a while`);
		}
		const best = others();
		if (best !== undefined && number + BigInt(maxHeadLagBlocks) < best) {
			throw leaveOut("HEAD_STALE", `is ${best - number} blocks behind another one; it is left out for a while`);
		}
		shown = { number, at: now() };
	};

	const isLeftOut = () => leftOut !== undefined && now() < leftOut.until;

	const close = async () => {
		const holder = opened;
		opened = undefined;
		// It is there already: viem keeps one socket for a URL.
		const socket = await holder?.getRpcClient?.().catch(() => undefined);
		socket?.close();
	};

	const transport: Transport = (parameters) => {
		const { config, request, value } = inner(parameters);
		const holder = (value ?? {}) as SocketHolder;
		const ask: Ask = async (call, callOptions) => {
			try {
				if (isSocket) opened = holder;
				const answer = (request as Ask)(call, callOptions);
				return await (isSocket ? within(timeoutMs, answer, call, place) : answer);
			} catch (error) {
				if (isSocket && !isAnswer(error)) await closeBroken(holder);
				const hidden = hideSecrets(error, { url, place, call });
				if (call.method === "eth_sendRawTransaction" && isAnswer(hidden)) answersToSending.add(hidden as Error);
				throw hidden;
			}
		};
		const checked: Ask = async (call, callOptions) => {
			if (leftOut !== undefined && isLeftOut()) throw leftOut.error;
			if (now() >= chainGoodUntil) await assertChain(ask);
			const answer = await ask(call, callOptions);
			assertHead(call, answer);
			return answer;
		};
		const hide = (error: unknown) => hideSecrets(error, { url, place, call: { method: "eth_subscribe" } });
		const subscribe = async (subscription: Subscription) => {
			opened = holder;
			const onError = (error: unknown) => subscription.onError?.(hide(error));
			return holder.subscribe?.({ ...subscription, onError }).catch((error: unknown) => {
				throw hide(error);
			});
		};
		const checkedRequest = checked as EIP1193RequestFn;
		return {
			config: { ...config, request: checkedRequest },
			request: checkedRequest,
			value: isSocket ? { ...value, subscribe } : value,
		};
	};

	return {
		transport,
		head: () => (shown === undefined || isLeftOut() || now() - shown.at > HEAD_MEMORY_MS ? undefined : shown.number),
		close,
	};
}

const answersToSending = new WeakSet<Error>();

/** A node's word on a transaction that it was given: the sender's to judge, whatever it is. Internal. */
export function isAnswerToSending(error: Error): boolean {
	return answersToSending.has(error);
}

/** The node has spoken: it, and not the way to it, has refused. Internal. */
export function isAnswer(error: unknown): boolean {
	// viem says -1 of what it does not know the reason of.
	return error instanceof RpcRequestError || (error instanceof RpcError && error.code !== -1);
}

/** The chain's head in an answer, where the call has asked for it. */
function headIn(method: string, params: unknown, answer: unknown) {
	if (method === "eth_blockNumber" && typeof answer === "string") {
		return { number: BigInt(answer), timestamp: undefined };
	}
	if (method !== "eth_getBlockByNumber" || !Array.isArray(params) || params[0] !== "latest") return undefined;
	const { number, timestamp } = (answer ?? {}) as { number?: string; timestamp?: string };
	if (number === undefined || timestamp === undefined) return undefined;
	return { number: BigInt(number), timestamp: Number(timestamp) };
}

/** A socket that broke is given up, so that the next call opens another: viem would keep it for ever. */
async function closeBroken(holder: SocketHolder): Promise<void> {
	const client = await holder.getRpcClient?.().catch(() => undefined);
	if (client !== undefined && client.socket.readyState !== OPEN) client.close();
}

/** viem bounds how long a WebSocket takes to answer, but not how long it takes to open. */
async function within(timeoutMs: number, answer: Promise<unknown>, { method }: Call, place: number): Promise<unknown> {
	const { promise, reject } = Promise.withResolvers<never>();
	const timer = setTimeout(
		() => reject(new TimeoutError({ body: { method }, url: `endpoint ${place}` })),
		timeoutMs + OPENING_MS,
	);
	return Promise.race([answer, promise]).finally(() => clearTimeout(timer));
}

/** Over the answer's own time, so that it is viem who says that there was no answer. */
const OPENING_MS = 1_000;
