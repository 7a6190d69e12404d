/** Plays a sequence of steps on model and contract at once, and counts what came of it. */
import type { Hex } from "viem";
import { type Answer, type Judge, Run } from "./driver.ts";
import {
	existing,
	pick,
	resolveBatch,
	resolveOpen,
	resolvePayersCall,
	resolveRedemption,
	resolveTopUp,
	resolveWait,
	type Scene,
	senderOf,
} from "./resolve.ts";
import type { Stage } from "./stage.ts";
import type { Step } from "./steps.ts";
import type { Call, CallKind, Happening } from "./terms.ts";
import { balance } from "./tokenModel.ts";

/** How often what happened, over many sequences. */
export class Tally {
	sequences = 0;
	readonly #counts = new Map<string, number>();

	count(what: string): void {
		this.#counts.set(what, this.of(what) + 1);
	}

	of(what: string): number {
		return this.#counts.get(what) ?? 0;
	}

	/** All counts whose name begins with `prefix`, by the rest of the name. */
	under(prefix: string): Record<string, number> {
		const found = [...this.#counts].filter(([name]) => name.startsWith(prefix)).sort();
		return Object.fromEntries(found.map(([name, count]) => [name.slice(prefix.length), count]));
	}

	total(prefix: string): number {
		return Object.values(this.under(prefix)).reduce((sum, count) => sum + count, 0);
	}

	record({ kind }: Call, answer: Answer): void {
		this.count(`${answer.accepted ? "accepted" : "refused"} ${kind}`);
		if (!answer.accepted) this.count(`error ${answer.revert.error}`);
		for (const { name, reasons } of answer.accepted ? answer.events : []) {
			this.count(`event ${name}`);
			for (const { error } of reasons ?? []) this.count(`skipped ${error}`);
		}
	}
}

/** One sequence, step by step: each is done on model and contract at once. */
export class Play {
	readonly run: Run;
	readonly #stage: Stage;
	readonly #calls: Call[] = [];

	private constructor(stage: Stage, judge?: Judge) {
		this.#stage = stage;
		this.run = new Run(stage, judge);
	}

	/** Puts the chain back to where every sequence begins. */
	static async begin(stage: Stage, judge?: Judge): Promise<Play> {
		await stage.reset();
		return new Play(stage, judge);
	}

	get scene(): Scene {
		const { state } = this.run;
		const { cast, tokens } = this.#stage;
		return { state, cast, tokens, others: Object.keys(state.channels) as Hex[] };
	}

	/**
	 * Resolves to what the contract answered, where the step was a call of it.
	 *
	 * @throws DisagreementError as soon as contract and model differ
	 */
	async step(step: Step): Promise<Readonly<{ call: Call; answer: Answer }> | undefined> {
		const { scene } = this;
		if (step.do === "wait") {
			await this.run.travel(resolveWait(scene, step));
			return undefined;
		}
		const happening = resolveHappening(scene, step);
		if (happening !== undefined) await this.run.happen(happening);
		const call = resolveCall(scene, step, this.#calls);
		if (call === undefined) return undefined;
		this.#calls.push(call);
		return { call, answer: await this.run.perform(call) };
	}
}

/** @throws DisagreementError */
export async function play(stage: Stage, steps: readonly Step[], tally: Tally, judge?: Judge): Promise<void> {
	const sequence = await Play.begin(stage, judge);
	for (const step of steps) {
		const done = await sequence.step(step);
		if (done !== undefined) tally.record(done.call, done.answer);
	}
	tally.sequences++;
}

function resolveCall(scene: Scene, step: Step, earlier: readonly Call[]): Call | undefined {
	switch (step.do) {
		case "open":
			return resolveOpen(scene, step);
		case "top up":
			return resolveTopUp(scene, step);
		case "settle":
		case "close":
			return resolveRedemption(scene, step);
		case "request close":
		case "withdraw":
			return resolvePayersCall(scene, step);
		case "settle many":
		case "close many":
			return resolveBatch(scene, step);
		case "again": {
			if (earlier.length === 0) return undefined;
			const call = pick(earlier, step.which);
			return { ...call, sender: senderOf(scene.cast, call.sender, step.sender) };
		}
		default:
			return undefined;
	}
}

/** What the step lets happen around the escrow; `undefined` when it is a call, or is not possible now. */
function resolveHappening(scene: Scene, step: Step): Happening | undefined {
	const { state, cast, tokens } = scene;
	switch (step.do) {
		case "approve": {
			const spender = step.permit2 ? state.permit2 : state.escrow;
			const { amount } = step;
			return {
				kind: "approve",
				token: pick(tokens, step.token),
				owner: pick(cast.payers, step.payer),
				spender,
				amount,
			};
		}
		case "donate": {
			const [token, from, { amount }] = [pick(tokens, step.token), pick(cast.payers, step.payer), step];
			const { [token]: known } = state.tokens;
			if (known === undefined || known.blocked[from] || balance(known, from) < amount) return undefined;
			return { kind: "transfer", token, from, to: state.escrow, amount };
		}
		case "block": {
			const { payer, payee } = existing(scene, step.channel).channel;
			const account = step.who === "payer" ? payer : payee;
			return { kind: "block", token: pick(tokens, BLOCKLIST_TOKEN), account, blocked: step.blocked };
		}
		default:
			return undefined;
	}
}

const BLOCKLIST_TOKEN = 2;

/** All that can be called, for the count at the end. */
export const CALL_KINDS: readonly CallKind[] = [
	"open",
	"openWithAuthorization",
	"openWithPermit2",
	"topUp",
	"topUpWithAuthorization",
	"topUpWithPermit2",
	"settle",
	"settleWithAuthorization",
	"close",
	"closeWithAuthorization",
	"requestClose",
	"withdraw",
	"settleMany",
	"closeMany",
];
