/** The server's ledger beside a chain: it is fed the chain's events and a payer's vouchers, as the server would. */
import type { Hex } from "viem";
import { expect } from "vitest";
import type { ChainState, Channel as LedgerChannel } from "../../src/server/channel.ts";
import { applyEvent, closingVoucher, type LedgerEvent, type Transition } from "../../src/server/ledger.ts";
import { createVoucherDomain, createVoucherVerifier } from "../../src/voucher/index.ts";
import { voucherSigner } from "./channelRules.ts";
import { type Flaw, signedBy } from "./forgery.ts";
import { expectFrozen, mayBeTaken, showsLess } from "./ledgerExpected.ts";
import { channelIdOf, readEvent } from "./ledgerFeed.ts";
import type { Play, Tally } from "./play.ts";
import { amountOf, existing } from "./resolve.ts";
import { signatureBytes } from "./signing.ts";
import type { Amount } from "./steps.ts";
import type { Channel, Emitted, Message, Signature } from "./terms.ts";
import { hasSigned } from "./tokenModel.ts";

const OWNER = "this process";

export type Given = Readonly<{
	channel: number;
	amount: Amount;
	flaw: Flaw;
	challengeId: string;
	minVoucherDelta: bigint;
	/** Where the voucher is for a channel that the server does not know: what its request costs, if it is adopted (D10). */
	adoptedFor: bigint | undefined;
}>;

/** What the ledger would be asked to take: the bytes as they came, and what they are in the model. */
type Offered = Readonly<{ channelId: Hex; cumulativeAmount: bigint; signature: Hex; isGood: boolean }>;

export class LedgerRun {
	readonly ledger = new Map<Hex, LedgerChannel>();
	/** What was heard of each channel, the last one being what is known of it. */
	readonly #heard = new Map<Hex, NonNullable<ReturnType<typeof readEvent>>[]>();
	/** Events that were not looked at yet, and the blocks they are in: one for each call. */
	#unread: Readonly<{ event: Emitted; block: number }>[] = [];
	#block = 0;
	readonly #play: Play;
	readonly #tally: Tally;
	/** What the bytes are in the model, of every signature that was offered. */
	readonly #signed = new Map<Hex, Signature>();
	readonly #verifier = createVoucherVerifier();
	readonly #where;
	readonly #domain;

	constructor(play: Play, tally: Tally) {
		this.#play = play;
		this.#tally = tally;
		const { chainId, escrow } = play.run.state;
		this.#where = { chainId, escrow };
		this.#domain = createVoucherDomain(chainId, escrow);
	}

	/** These events happened on chain; the ledger hears of them with the next {@link watch}. */
	happened(events: readonly Emitted[]): void {
		const block = ++this.#block;
		this.#unread.push(...events.map((event) => ({ event, block })));
	}

	/** Feeds the ledger what it has not heard of; then it must be where the chain is. */
	watch(): void {
		const unread = this.#unread;
		this.#unread = [];
		for (const one of unread) this.#hear(one);
		for (const [channelId, { deposit, settledOnChain, closeRequestedAt, finalized, behind }] of this.ledger) {
			expect({ deposit, settledOnChain, closeRequestedAt, finalized, behind }).toEqual({
				...this.#onChain(channelId),
				behind: null,
			});
		}
	}

	#hear({ event, block }: Readonly<{ event: Emitted; block: number }>): void {
		const channelId = channelIdOf(event);
		const heard = this.#heard.get(channelId) ?? [];
		const before = heard.at(-1);
		const after = readEvent(before, event, block, this.#where);
		if (after === undefined || after === before) return;
		this.#heard.set(channelId, [...heard, after]);
		const channel = this.ledger.get(channelId);
		if (channel === undefined) return;
		const step = this.#observe(channel, after.chain);
		expect(step.effects.includes("close-requested")).toBe(event.name === "CloseRequested");
		expect(step.effects.includes("closed")).toBe(after.chain.finalized);
	}

	/** A payer sends a voucher, for a channel that the server may not know yet. */
	async voucher(given: Given): Promise<void> {
		const offered = await this.#offer(given);
		if (!offered.isGood) return this.#tally.count("ledger: bad signature");
		const { channelId, cumulativeAmount, signature } = offered;
		const voucher = { cumulativeAmount, signature, challengeId: given.challengeId };
		const known = this.#heard.get(channelId)?.at(-1);
		const before = this.ledger.get(channelId);
		// The server reads an unknown channel from the chain; here, what its events said.
		if (known === undefined) return;
		const event: LedgerEvent =
			before === undefined
				? { type: "opened", ...known, voucher, minimum: 1n, ...unaccounted(given) }
				: { type: "voucher", voucher, minVoucherDelta: given.minVoucherDelta };
		const step = this.#apply(before, event);
		expect(step.ok, `${event.type} for ${cumulativeAmount}`).toBe(
			mayBeTaken(known.chain, before, cumulativeAmount, given),
		);
		if (!step.ok) return this.#tally.count(`ledger: ${step.problem.type.split("/").at(-1)}`);
		if (before === undefined && given.adoptedFor !== undefined) this.#isAccountedFor(step.channel, given.adoptedFor);
		const isNew = cumulativeAmount > (before?.acceptedCumulative ?? 0n) && step.channel.voucherSignature === signature;
		if (isNew && step.channel.acceptedCumulative === cumulativeAmount) await this.#isMoney(offered);
		else this.#tally.count("ledger: stale");
	}

	/** Of an adopted channel no more is left to spend than its request costs, and nothing of what was settled (D10). */
	#isAccountedFor({ acceptedCumulative, spent, settledOnChain }: LedgerChannel, price: bigint): void {
		expect(spent).toBeGreaterThanOrEqual(settledOnChain);
		expect(acceptedCumulative - spent).toBeLessThanOrEqual(price);
		this.#tally.count("ledger: adopted");
	}

	/** An accepted voucher is money: not above the deposit, from the right signer, and the chain would pay it now. */
	async #isMoney({ channelId, cumulativeAmount, signature }: Offered): Promise<void> {
		const { state } = this.#play.run;
		const channel = this.#channel(channelId);
		expect(cumulativeAmount).toBeLessThanOrEqual(channel.deposit);
		expect(channel.finalized).toBe(false);
		expect(
			hasSigned(
				state,
				voucherSigner(channel),
				this.#message(channelId, cumulativeAmount),
				this.#signatureOf(signature),
			),
		).toBe(true);
		if (cumulativeAmount <= channel.settled) return this.#tally.count("ledger: settled before");
		await this.#pays(channelId, cumulativeAmount, signature);
		this.#tally.count("ledger: accepted");
	}

	async #pays(channelId: Hex, cumulativeAmount: bigint, signature: Hex): Promise<void> {
		const sender = this.#channel(channelId).payee;
		const voucher = { channelId, cumulativeAmount, signature: this.#signatureOf(signature) };
		const answer = await this.#play.run.ask({ kind: "settle", sender, ...voucher });
		expect(answer, `settling ${cumulativeAmount} of ${channelId}`).toBe("accepted");
	}

	/** What the ledger holds for each channel that is open is still money, whatever the payer did since. */
	async everythingPays(): Promise<void> {
		for (const [channelId, { acceptedCumulative, voucherSignature }] of this.ledger) {
			const { settled, finalized } = this.#channel(channelId);
			if (finalized || acceptedCumulative <= settled) continue;
			await this.#pays(channelId, acceptedCumulative, voucherSignature);
			this.#tally.count("ledger: held and redeemable");
		}
	}

	/**
	 * News come that are old, as from a node that lags: nothing changes. Or the last blocks are replaced, and come again: the
	 * ledger keeps what it relied on, sells nothing where the chain shows less than that, and is afterwards where it was.
	 */
	look(index: number, ago: number, reorganized: boolean): void {
		const before = this.#pick(index);
		if (before === undefined) return;
		const heard = this.#heard.get(before.channelId) ?? [];
		const now = heard.at(-1);
		const then = heard.at(-1 - ago) ?? heard[0];
		if (now === undefined || then === undefined || then.chain.blockNumber === now.chain.blockNumber) return;
		if (!reorganized) {
			expect(this.#observe(before, then.chain).channel).toBe(before);
			this.#tally.count("ledger: old news");
			return;
		}
		const { channel: during, effects } = this.#observe(before, then.chain, true);
		const isLess = showsLess(before, then.chain);
		expect([during.behind, effects.includes("frozen")]).toEqual([isLess ? then.chain : null, isLess]);
		if (isLess) expectFrozen(before, during);
		const { channel: after, effects: again } = this.#observe(during, now.chain, true);
		expect(again.includes("thawed")).toBe(isLess);
		const { generation, unsettledSince } = after;
		expect({ ...after, chainReadAt: 0 }).toEqual({ ...before, generation, unsettledSince, chainReadAt: 0 });
		this.#tally.count(isLess ? "ledger: frozen and thawed" : "ledger: reorganized");
	}

	/** It is not worth its gas now. */
	defer(index: number): void {
		const channel = this.#pick(index);
		if (channel === undefined) return;
		const step = this.#apply(channel, { type: "deferred" });
		if (!step.ok) expect.fail("putting off a channel was refused");
		const { deferredAt } = step.channel;
		expect(step.channel).toEqual({ ...channel, deferredAt });
		this.#tally.count("ledger: deferred");
	}

	/** A request is served and charged. */
	spend(index: number, price: bigint): void {
		const channel = this.#pick(index);
		if (channel === undefined) return;
		const voucher = { cumulativeAmount: channel.acceptedCumulative, challengeId: channel.challengeIds[0] ?? "none" };
		const held = this.#apply(channel, { type: "reserve", amount: price, owner: OWNER, voucher, minVoucherDelta: 0n });
		this.#tally.count(held.ok ? "ledger: captured" : "ledger: reservation refused");
		if (!held.ok) return;
		const reservation = { owner: OWNER, generation: held.channel.generation, amount: price };
		const captured = this.#apply(held.channel, { type: "capture", reservation, used: price });
		if (!captured.ok) expect.fail("a capture of what was just reserved was refused");
	}

	/** A cooperative close as the server does it: up to the transaction, whose voucher the ledger decides (D6). */
	async cooperate(given: Given): Promise<void> {
		const offered = await this.#offer(given);
		const before = this.ledger.get(offered.channelId);
		if (!offered.isGood || before === undefined) return;
		const voucher = { cumulativeAmount: offered.cumulativeAmount, challengeId: given.challengeId };
		const begun = this.#apply(before, { type: "close-begun", owner: OWNER, voucher });
		if (!begun.ok) return this.#tally.count("ledger: cooperative close refused");
		const { cumulativeAmount, signature } = closingVoucher(begun.channel, offered);
		const decided = this.#apply(begun.channel, { type: "close-decided", cumulativeAmount, signature });
		if (!decided.ok) expect.fail("a close by the ledger's own rule was refused");
		await this.#close(decided.channel, cumulativeAmount, signature, "cooperative close");
	}

	/** The server closes a channel by its own decision, with the highest voucher (I8). */
	async retire(index: number): Promise<void> {
		const before = this.#pick(index);
		if (before === undefined) return;
		const begun = this.#apply(before, { type: "retire-begun", owner: OWNER });
		expect(begun.ok).toBe(!before.finalized);
		if (!begun.ok) return this.#tally.count("ledger: retirement refused");
		expect(begun.effects).toEqual(["drained"]);
		const { acceptedCumulative: cumulativeAmount, voucherSignature: signature } = begun.channel;
		const decided = this.#apply(begun.channel, { type: "close-decided", cumulativeAmount, signature });
		if (!decided.ok) expect.fail("a close with the highest voucher was refused");
		await this.#close(decided.channel, cumulativeAmount, signature, "retired");
	}

	/** The transaction of a close that was decided. */
	async #close(channel: LedgerChannel, cumulativeAmount: bigint, signature: Hex, what: string): Promise<void> {
		const { channelId, payee: sender } = channel;
		const published = this.#apply(channel, { type: "publishing", cumulativeAmount });
		if (!published.ok) expect.fail("the voucher of a close could not be noted as published");
		const call = { channelId, cumulativeAmount, signature: this.#signatureOf(signature) };
		const answer = await this.#play.run.perform({ kind: "close", sender, ...call });
		if (!answer.accepted) {
			// Where the ledger is late, the payer may have withdrawn by now; nothing else may be in the way.
			expect([answer.revert.error, this.#isUnheardOf("Withdrawn", channelId)]).toEqual(["ChannelFinalized", true]);
			this.#apply(published.channel, { type: "close-failed" });
			this.watch();
			return this.#tally.count(`ledger: ${what} too late`);
		}
		this.happened(answer.events);
		this.watch();
		expect(this.ledger.get(channelId)).toMatchObject({ finalized: true, closingBy: null });
		this.#tally.count(`ledger: ${what}`);
	}

	async #offer({ channel: index, amount, flaw }: Given): Promise<Offered> {
		const { scene } = this.#play;
		const { channelId, channel } = existing(scene, index);
		const cumulativeAmount = amountOf(channel, amount);
		const message = this.#message(channelId, cumulativeAmount);
		const signed = signedBy(scene, voucherSigner(channel), message, flaw);
		const signature = await signatureBytes(signed);
		this.#signed.set(signature, signed);
		const signer = voucherSigner(channel);
		const verdict = this.#verifier.verifyVoucher(this.#domain, signer, { channelId, cumulativeAmount }, signature);
		const isGood = verdict === "valid";
		// The server asks no contract: what only a wallet would agree to is refused.
		const isWallet = scene.state.wallets[signer] !== undefined;
		if (!isWallet || isGood) expect(isGood).toBe(hasSigned(scene.state, signer, message, signed));
		return { channelId, cumulativeAmount, signature, isGood };
	}

	#apply(channel: LedgerChannel | undefined, event: LedgerEvent): Transition {
		const step = applyEvent(channel, event, Number(this.#play.run.state.time) * 1_000);
		if (step.ok) this.ledger.set(step.channel.channelId, step.channel);
		return step;
	}

	#observe(channel: LedgerChannel, chain: ChainState, reorganized = false) {
		const step = this.#apply(channel, { type: "chain-observed", chain, reorganized });
		if (!step.ok) expect.fail("the ledger refused what the chain says");
		return step;
	}

	#isUnheardOf(name: string, channelId: Hex): boolean {
		return this.#unread.some(({ event }) => event.name === name && channelIdOf(event) === channelId);
	}

	#signatureOf(bytes: Hex): Signature {
		return this.#signed.get(bytes) ?? "empty";
	}

	#pick(index: number): LedgerChannel | undefined {
		return [...this.ledger.values()][index % Math.max(this.ledger.size, 1)];
	}

	#message(channelId: Hex, cumulativeAmount: bigint): Message {
		const { chainId, escrow: contract } = this.#where;
		return { type: "Voucher", chainId, contract, channelId, cumulativeAmount };
	}

	#channel(channelId: Hex): Channel {
		const channel = this.#play.run.state.channels[channelId];
		if (channel === undefined) throw new TypeError(`no channel ${channelId}`);
		return channel;
	}

	/** The run holds the model's channels against the contract's after each call, so these are the chain's. */
	#onChain(channelId: Hex): Omit<ChainState, "blockNumber"> {
		const { deposit, settled: settledOnChain, closeRequestedAt, finalized } = this.#channel(channelId);
		return { deposit, settledOnChain, closeRequestedAt: Number(closeRequestedAt), finalized };
	}
}

function unaccounted({ adoptedFor: price }: Given) {
	return price === undefined ? {} : { unaccounted: { price } };
}
