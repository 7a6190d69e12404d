/** Clients of one payer that share what they keep, and what is looked at of them. */

import type { Hex, LocalAccount } from "viem";
import {
	type ApprovalRequest,
	type HeldChannel,
	MemoryPayerStore,
	type PayerStore,
	PayerStoreError,
	type PaymentClient,
	type PaymentClientOptions,
	type PaymentPolicy,
} from "../../src/client/index.ts";
import { Relay, type RelayOptions } from "./relay.ts";
import type { Stage } from "./stage.ts";
import { type Call, clientFor, type Reply, type Script, type ScriptedServer, spyOn } from "./support.ts";

export const AUTHORIZED: RelayOptions = { details: { credentialTypes: ["authorization"] } };

/** Where agents pay: a chain, and the server that they pay there. */
export type Scene = Readonly<{ stage: Stage; server: ScriptedServer }>;

export type Agent = ReturnType<Agents["add"]>;

/** Clients of one payer, each with a store of its own over the same files, as processes have. */
export class Agents {
	readonly scene: Scene;
	readonly account: LocalAccount;
	readonly relay: Relay;
	readonly store = new MemoryPayerStore({ graceMs: 0 });

	private constructor(scene: Scene, account: LocalAccount, relay: Relay) {
		this.scene = scene;
		this.account = account;
		this.relay = relay;
		scene.server.answer(relay.script);
	}

	static async create(scene: Scene, options: RelayOptions = AUTHORIZED, account?: LocalAccount): Promise<Agents> {
		return new Agents(scene, account ?? (await scene.stage.payer()), new Relay(scene.stage, options));
	}

	add(
		policy: Partial<PaymentPolicy> = {},
		options: Partial<PaymentClientOptions> & Readonly<{ account?: LocalAccount }> = {},
	) {
		const { stage, server } = this.scene;
		const { account = this.account, ...others } = options;
		const spy = spyOn(account);
		const store: PayerStore = options.store ?? this.store.share();
		const agent = clientFor(stage, spy.account, [server.host], policy, { ...others, store });
		const get = (init?: RequestInit & Readonly<{ path?: string }>) =>
			agent.fetch(`${server.url}${init?.path ?? "/"}`, init);
		return { agent, spy, store, get };
	}

	/** The whole of what `add` makes of a policy. */
	policyOf(policy: Partial<PaymentPolicy> = {}): PaymentPolicy {
		const { stage, server } = this.scene;
		return {
			chainIds: [stage.chain.chainId],
			tokens: [stage.token],
			escrows: [stage.escrow],
			hosts: [server.host],
			maxDeposit: 10_000n,
			maxPrice: 1_000n,
			...policy,
		};
	}

	get books() {
		return [...this.relay.books.values()].map(({ accepted, spent }) => ({ accepted, spent }));
	}
}

/** The amounts of vouchers, in the order in which the server saw them. */
export const amountsOf = (calls: readonly Call[]) =>
	calls.flatMap(({ credential }) => {
		const amount = credential?.payload.cumulativeAmount;
		return amount === undefined ? [] : [String(amount)];
	});

export const idsOf = (agent: PaymentClient) => agent.channels.map(({ channelId }) => channelId);

/** Who approves as told, and remembers what was asked. */
export function asking(answer: boolean | ((request: ApprovalRequest) => boolean)) {
	const asked: ApprovalRequest[] = [];
	return {
		asked,
		approve: (request: ApprovalRequest) => {
			asked.push(request);
			return typeof answer === "boolean" ? answer : answer(request);
		},
	};
}

/** A client that is gone from one moment to the next: it gives nothing back, and writes nothing more. */
export async function crash({ store }: Readonly<{ store: PayerStore }>): Promise<void> {
	store.write = () => new Promise(() => undefined);
	await store.close();
}

/** Amounts as they rise: what was signed again is left out. */
export function raisesOf(amounts: readonly bigint[]): readonly bigint[] {
	return amounts.filter((amount, at) => amounts.indexOf(amount) === at);
}

/** What is held, by anybody. */
export async function heldIn(store: PayerStore): Promise<readonly Hex[]> {
	return (await store.list()).filter(({ isHeld }) => isHeld).map(({ record }) => record.state.channelId);
}

/**
 * Answers each paid `GET` by events that go on: one, then the need of a voucher of `required`, and no end until `over`
 * resolves.
 */
export function metered(
	script: Script,
	{ required, over }: Readonly<{ required: (paid: bigint) => bigint; over: Promise<unknown> }>,
): Script {
	return async (call): Promise<Reply> => {
		const reply = await script(call);
		if (call.credential === undefined || call.method !== "GET" || reply === "cut" || reply.status !== undefined)
			return reply;
		const { channelId, cumulativeAmount } = call.credential.payload;
		const paid = BigInt(String(cumulativeAmount));
		const need = {
			channelId,
			requiredCumulative: String(required(paid)),
			acceptedCumulative: String(paid),
			deposit: "1000",
		};
		async function* pieces() {
			yield "id: 1\ndata: one\n\n";
			yield `event: payment-need-voucher\ndata: ${JSON.stringify(need)}\n\n`;
			await over;
		}
		return { ...reply, headers: { ...reply.headers, "content-type": "text/event-stream" }, pieces: pieces() };
	};
}

/** Where a call of a store fails: before it is carried out, or when it was. */
export type Fault = "before" | "after" | undefined;

/** What is held by these and nobody heard of is given back by a store that is connected to anew. */
const TAKING = new Set(["take", "takeById", "add"]);

/** A store whose calls can be made to fail. */
export function faultyStore(store: PayerStore, faultOf: (call: string, args: readonly unknown[]) => Fault): PayerStore {
	return new Proxy(store, {
		get(target, name) {
			const call: unknown = Reflect.get(target, name, target);
			if (typeof call !== "function") return call;
			if (name === "onWanted" || name === "close") return call.bind(target);
			return async (...args: unknown[]) => {
				const fault = faultOf(String(name), args);
				if (fault === "before") throw new PayerStoreError(`${String(name)} was not carried out`);
				const result: unknown = await call.apply(target, args);
				if (fault !== "after") return result;
				if (TAKING.has(String(name)) && result !== undefined) {
					const { record, fence } = result as HeldChannel;
					await target.release(record.state.channelId, fence);
				}
				throw new PayerStoreError(`nobody said what became of ${String(name)}`);
			};
		},
	});
}
