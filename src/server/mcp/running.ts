import type { RequestId } from "@modelcontextprotocol/sdk/types.js";
import type { RpcOutcome } from "../jsonrpc/types.ts";

type Running = Readonly<{
	/** As the client calls it. */
	id: RequestId;
	settle: (outcome: RpcOutcome) => void;
}>;

/**
 * Paid calls that the server is carrying out. It knows them by ids of ours: two calls of one id, or the answer to another
 * request of the same id, must not be taken for one another, since one of them may be paid for and the other not.
 */
export class RunningCalls {
	readonly #prefix = `paid-${crypto.randomUUID()}-`;
	readonly #running = new Map<RequestId, Running>();
	#last = 0;

	/** @param carryOut gives the call to the server, under the id that it gets */
	run(id: RequestId, signal: AbortSignal, carryOut: (ownId: string) => void): Promise<RpcOutcome> {
		this.#last++;
		const ownId = `${this.#prefix}${this.#last}`;
		const { promise, resolve, reject } = Promise.withResolvers<RpcOutcome>();
		const onAbort = () => reject(signal.reason);
		signal.addEventListener("abort", onAbort);
		this.#running.set(ownId, { id, settle: resolve });
		carryOut(ownId);
		return promise.finally(() => {
			signal.removeEventListener("abort", onAbort);
			this.#running.delete(ownId);
		});
	}

	/** Whether an id is of ours. Of a call that nobody waits for any more there is no client's id. */
	isOwn(id: unknown): id is string {
		return typeof id === "string" && id.startsWith(this.#prefix);
	}

	/** What the client calls it. */
	clientId(ownId: string): RequestId | undefined {
		return this.#running.get(ownId)?.id;
	}

	/** Ids of ours under which a call of the client's runs. */
	ownIds(id: unknown): readonly string[] {
		return [...this.#running].flatMap(([ownId, running]) => (running.id === id ? [String(ownId)] : []));
	}

	settle(ownId: string, outcome: RpcOutcome): void {
		this.#running.get(ownId)?.settle(outcome);
	}
}
