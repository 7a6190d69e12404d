import { LRUCache } from "lru-cache";
import {
	AUTHORIZATION,
	CREDENTIAL_META,
	type Credential,
	canonicalCall,
	credentialToRpc,
	IDEMPOTENCY_KEY,
	IDEMPOTENCY_META,
	type JsonObject,
	PAYMENT_MANAGE_METHOD,
	parseCredential,
	paymentCredentials,
	type RpcChallenge,
} from "../../protocol/index.ts";
import type { PaymentClient } from "../client.ts";
import { type RpcAnswer, responseOf, staleResponse } from "./answers.ts";
import { addressOf, type RpcTarget, targetOf } from "./places.ts";

/** Challenges that are remembered as they came, and those that were answered. */
const MAX_CHALLENGES = 1_000;

/** Names the call that a request of the payer's stands for. It leaves this process never. */
const CALL_HEADER = "sluice-call";

/** What goes with a call besides the call. */
export type RpcMeta = Readonly<Record<string, unknown>>;

/** Sends one call, with this in its `_meta`, and resolves to its answer, also where that is an error. */
export type RpcSend = (target: RpcTarget, meta: RpcMeta, signal: AbortSignal) => Promise<RpcAnswer>;

type Call = Readonly<{ target: RpcTarget; send: RpcSend; answered: (answer: RpcAnswer) => void }>;

/** A call after `end()`: what is about its channel could not be sent. Make another session of the same place. */
export class RpcEndedError extends Error {
	override readonly name = "RpcEndedError";
	readonly code = "RPC_ENDED";
	constructor() {
		super("this session was ended: make another one by payMcp or payRpc");
	}
}

/**
 * A JSON-RPC server in the shape of an HTTP one: the payer's requests become calls, and their answers responses. So calls are
 * paid for by the very code that pays for HTTP.
 */
export class RpcLine {
	readonly base: string;
	readonly #manage: RpcSend;
	readonly #calls = new Map<string, Call>();
	readonly #challenges = new LRUCache<string, RpcChallenge>({ max: MAX_CHALLENGES });
	/** Of sessions: what a charge has paid may have to be shown again to be had. */
	readonly #answered = new LRUCache<string, true>({ max: MAX_CHALLENGES });

	#end: (() => void) | undefined;

	/**
	 * @param base address under which its operations are
	 * @param manage sends what is about a channel and not about a call
	 */
	constructor(base: string, manage: RpcSend) {
		this.base = base;
		this.#manage = manage;
	}

	/** From now on what is about channels of this place goes by this line. */
	begin(payer: Pick<PaymentClient, "route">): void {
		this.#end ??= payer.route(this.base, this.send);
	}

	readonly end = (): void => {
		this.#end?.();
		this.#end = undefined;
	};

	/** Makes a call by way of the payer. Resolves to the last answer, which may be an error, paid for or not. */
	async call(
		payer: Pick<PaymentClient, "fetchBy">,
		target: RpcTarget,
		send: RpcSend,
		signal: AbortSignal,
	): Promise<RpcAnswer> {
		if (this.#end === undefined) throw new RpcEndedError();
		const id = crypto.randomUUID();
		let last: RpcAnswer | undefined;
		const answered = (answer: RpcAnswer) => {
			last = answer;
		};
		this.#calls.set(id, { target, send, answered });
		try {
			const body = canonicalCall(target);
			const headers = { [CALL_HEADER]: id, "content-type": "application/json" };
			const request = new Request(addressOf(this.base, target), { method: "POST", headers, body, signal });
			// Of several lines to one place this very one knows the call.
			const response = await payer.fetchBy(this.send, request).catch((error: unknown) => {
				throw signal.aborted ? signal.reason : error;
			});
			void response.body?.cancel().catch(() => undefined);
			if (last === undefined) throw new Error("a payer answered a call by itself");
			return last;
		} finally {
			this.#calls.delete(id);
		}
	}

	/** Sends a request of the payer's as the call that it stands for. */
	readonly send = async (request: Request): Promise<Response> => {
		const { headers, signal } = request;
		const id = headers.get(CALL_HEADER);
		const call = this.#calls.get(id ?? "");
		// Without its arguments it would be another call, paid for and no use to anybody.
		if (id !== null && call === undefined) throw new Error("nobody waits for this call any more");
		const { target, send } = call ?? this.#managing(request);
		const credential = credentialOf(headers);
		const isUsed = credential !== undefined && this.#answered.has(credential.challenge.id);
		const meta = credential === undefined || isUsed ? {} : this.#metaFor(credential, headers);
		const answer = await send(target, meta, signal);
		call?.answered(answer);
		const response = responseOf(answer, (challenge) => this.#challenges.set(challenge.id, challenge));
		return isUsed && response.status === 402 ? staleResponse(response) : response;
	};

	/** `HEAD` has a method of its own; a top-up or a close goes where its channel was opened. */
	#managing({ method, url }: Request): Readonly<{ target: RpcTarget; send: RpcSend }> {
		const about = targetOf(this.base, url);
		const target = method === "HEAD" ? { method: PAYMENT_MANAGE_METHOD, params: about as JsonObject } : about;
		return { target, send: this.#manage };
	}

	#metaFor(credential: Credential, headers: Headers): RpcMeta {
		const { challenge } = credential;
		if (challenge.intent === "session") this.#answered.set(challenge.id, true);
		const key = headers.get(IDEMPOTENCY_KEY);
		return {
			[CREDENTIAL_META]: credentialToRpc(credential, this.#challenges.get(challenge.id)),
			...(key !== null && { [IDEMPOTENCY_META]: key }),
		};
	}
}

function credentialOf(headers: Headers): Credential | undefined {
	const [field] = paymentCredentials(headers.get(AUTHORIZATION) ?? undefined);
	return field === undefined ? undefined : parseCredential(field);
}
