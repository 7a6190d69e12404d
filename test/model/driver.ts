/** Sends the model's calls to the real contract and holds what comes back against what the model says. */
import { type Address, decodeFunctionResult, type Hex, numberToHex } from "viem";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import {
	escrowEvents,
	matchesRefusal,
	revertData,
	revertOf,
	tokenTransfers,
	transferList,
	unexpectedEvent,
} from "./comparison.ts";
import { callData, happeningTransaction } from "./encoding.ts";
import { apply } from "./escrowModel.ts";
import { observe, projected } from "./observation.ts";
import { type MinedReceipt, type Stage, sendTransaction, type Transaction } from "./stage.ts";
import type { Call, Emitted, Happening, Outcome, Refusal, State, Token } from "./terms.ts";
import { balance, happen } from "./tokenModel.ts";

/** What the contract answered, after it was found to be what the model says. */
export type Answer = Readonly<{ accepted: true; events: readonly Emitted[] } | { accepted: false; revert: Refusal }>;

/** What the model would say of a call; replaced by a wrong one to see that the comparison notices. */
export type Judge = (state: State, call: Call) => Outcome;

/** The contract and the model differ: everything needed to see where. */
export class DisagreementError extends Error {
	override readonly name = "DisagreementError";
	readonly code = "DISAGREEMENT";
	constructor(call: Call | Happening, what: string, contract: unknown, model: unknown) {
		const print = (value: unknown) =>
			JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? `${inner}n` : inner), 1);
		super(`${what}\ncall: ${print(call)}\ncontract: ${print(contract)}\nmodel: ${print(model)}`);
	}
}

/** One sequence: the state that the model is in, which the chain must be in too. */
export class Run {
	state: State;
	readonly #stage: Stage;
	readonly #judge: Judge;

	constructor(stage: Stage, judge: Judge = apply) {
		this.#stage = stage;
		this.#judge = judge;
		this.state = stage.initial;
	}

	/** Performs one call on both sides. @throws DisagreementError */
	async perform(call: Call): Promise<Answer> {
		const transaction = { from: call.sender, to: this.state.escrow, data: await callData(call) };
		const outcome = this.#judge(this.state, call);
		const { result } = outcome;
		if (!result.accepted) {
			// A call by eth_call leaves no trace, as a reverted transaction does not: there is nothing else to compare.
			const answer = await this.#try(transaction);
			if (answer.ok) {
				throw new DisagreementError(call, "the contract accepts what the model refuses", "accepted", result);
			}
			const revert = revertOf(answer.data);
			if (!result.refusals.some((refusal) => matchesRefusal(refusal, revert))) {
				throw new DisagreementError(call, "the contract refuses for another reason", revert, result.refusals);
			}
			return { accepted: false, revert };
		}
		if (result.returns !== undefined) {
			const answer = await this.#try(transaction);
			const returned = answer.ok
				? decodeFunctionResult({ abi: paymentChannelEscrowAbi, functionName: call.kind, data: answer.data })
				: revertOf(answer.data);
			if (returned !== result.returns) throw new DisagreementError(call, "another result", returned, result.returns);
		}
		const receipt = await this.#send(call, transaction);
		const events = escrowEvents(receipt, this.state.escrow);
		const wrong = unexpectedEvent(events, result.events);
		if (wrong !== undefined) throw new DisagreementError(call, `another event (${wrong})`, events, result.events);
		const [moved, due] = [tokenTransfers(receipt, this.state.escrow), transferList(result.transfers)];
		if (String(moved) !== String(due)) throw new DisagreementError(call, "other transfers", moved, due);
		this.state = { ...outcome.state, time: this.state.time + 1n };
		await this.#compare(call);
		return { accepted: true, events };
	}

	/** What the contract alone says to a call now, without its being sent. */
	async ask(call: Call): Promise<"accepted" | Refusal> {
		const answer = await this.#try({ from: call.sender, to: this.state.escrow, data: await callData(call) });
		return answer.ok ? "accepted" : revertOf(answer.data);
	}

	/** Lets something happen around the escrow. */
	async happen(happening: Happening): Promise<void> {
		this.state = { ...happen(this.state, happening), time: this.state.time + 1n };
		await this.#send(happening, happeningTransaction(happening));
		await this.#compare(happening);
	}

	/** The next block will be at `time`, which must not be in the past. */
	async travel(time: bigint): Promise<void> {
		if (time <= this.state.time) return;
		await this.#stage.rpc("evm_setNextBlockTimestamp", [Number(time)]);
		this.state = { ...this.state, time };
	}

	async #send(call: Call | Happening, transaction: Transaction): Promise<MinedReceipt> {
		const receipt = await sendTransaction(this.#stage.rpc, transaction);
		if (receipt.status === "0x1") return receipt;
		const answer = await this.#try(transaction);
		throw new DisagreementError(call, "the contract refuses what the model accepts", revertOf(answer.data), "accepted");
	}

	/** What the call would come to in the next block. */
	async #try({ from, to, data }: Transaction): Promise<Readonly<{ ok: boolean; data: Hex }>> {
		const block = { time: numberToHex(this.state.time) };
		try {
			const params = [{ from, to, data, gas: "0x989680" }, "latest", {}, block];
			return { ok: true, data: await this.#stage.rpc<Hex>("eth_call", params) };
		} catch (error) {
			return { ok: false, data: revertData(error) };
		}
	}

	async #compare(call: Call | Happening): Promise<void> {
		const contract = await observe(this.#stage, this.state);
		for (const [what, value] of Object.entries(projected(this.#stage, this.state))) {
			if (contract[what] === value) continue;
			throw new DisagreementError(call, `another ${what} afterwards`, contract[what], value);
		}
		assertSolvent(this.state);
	}
}

/** I12: what is held covers what is owed, in each token. */
function assertSolvent({ channels, tokens, escrow }: State): void {
	const owed: Record<Address, bigint> = {};
	for (const { token, deposit, settled, finalized } of Object.values(channels)) {
		if (!finalized) owed[token] = (owed[token] ?? 0n) + deposit - settled;
	}
	for (const [address, token] of Object.entries(tokens) as [Address, Token][]) {
		const debt = owed[address] ?? 0n;
		if (balance(token, escrow) < debt) throw new Error(`the escrow cannot pay what it owes in ${address}`);
	}
}
