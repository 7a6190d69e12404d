/** What has to be so whenever a process of an agent has died, and when the last one has ended. */
import type { Hex } from "viem";
import { expect } from "vitest";
import { until } from "../../src/cli/demo/until.ts";
import {
	type Agent,
	type Arrival,
	type CrashStage,
	FUNDS,
	type Kept,
	type Life,
	PRICE,
	STEP,
} from "./clientCrashStage.ts";

const sum = (amounts: Iterable<bigint>) => [...amounts].reduce((a, b) => a + b, 0n);

/** How a request ends that a limit does not allow. */
export const LIMIT_REACHED = "POLICY_REFUSED limit";

/** The lives of one agent, one after the other, on one wallet. */
export class Lives {
	readonly #stage: CrashStage;
	readonly #agent: Agent;
	/** How much vouchers may be ahead of what they pay for, on each channel. */
	readonly #step: bigint;
	readonly #lives: Life[] = [];
	/** Of each channel the highest amount that was ever on disk, and of all together what was counted. */
	readonly #kept = new Map<Hex, bigint>();
	#counted = 0n;

	constructor(stage: CrashStage, agent: Agent) {
		this.#stage = stage;
		this.#agent = agent;
		this.#step = agent.server === stage.servers.stepped ? STEP : 0n;
	}

	add(life: Life): void {
		this.#lives.push(life);
	}

	/** Channels of which the escrow holds a deposit that can be used, as far as the server knows them. */
	async usable({ records }: Kept): Promise<readonly Hex[]> {
		const ids = records.map(({ state }) => state.channelId);
		const onChain = await Promise.all(ids.map((channelId) => this.#stage.world.onChain({ channelId })));
		return ids.filter((id, index) => {
			const { finalized = true, closeRequestedAt = 1 } = onChain[index] ?? {};
			return !finalized && closeRequestedAt === 0 && !this.#stage.forgotten.has(id);
		});
	}

	/** How many channels the escrow has ever taken a deposit for. */
	async funded({ records }: Kept): Promise<number> {
		const events = await this.#stage.deposits(records.map(({ state }) => state.channelId));
		const openings = events.map((names) => names.filter((name) => name === "ChannelOpened").length);
		expect(
			openings.filter((times) => times > 1),
			"channels that were opened more than once",
		).toEqual([]);
		return openings.filter((times) => times === 1).length;
	}

	/** What holds at any time, whoever has just died. */
	async checkStanding(): Promise<Kept> {
		const kept = await this.#agent.kept();
		const { records, counted } = kept;
		const ids = records.map(({ state }) => state.channelId);
		const signedOnDisk = new Map(records.map(({ state }) => [state.channelId, BigInt(state.signed)]));
		const told = this.#lives.flatMap(({ vouchers }) => vouchers);
		for (const { channelId, amount } of told)
			expect(signedOnDisk.get(channelId), "on disk, of what was signed").toBeGreaterThanOrEqual(amount);
		const arrived = this.#stage.arrivedAt(ids);
		for (const { channelId, amount, action } of arrived) {
			if (action === "topUp") continue;
			expect(signedOnDisk.get(channelId as Hex), "on disk, of what has arrived").toBeGreaterThanOrEqual(amount);
			expect(
				told.some((one) => one.channelId === channelId && one.amount === amount),
				"each voucher that arrives was told of when it was signed",
			).toBe(true);
		}

		// What was counted and what was signed never fall, whoever dies.
		expect(counted).toBeGreaterThanOrEqual(this.#counted);
		this.#counted = counted;
		// Only one that nothing was ever signed for may be gone.
		for (const [channelId, before] of this.#kept)
			expect(signedOnDisk.get(channelId) ?? 0n, "on disk, of what was there").toBeGreaterThanOrEqual(before);
		for (const [channelId, amount] of signedOnDisk) this.#kept.set(channelId, amount);
		const charges = sum(this.#lives.flatMap((life) => life.charges));
		const vouchers = sum(signedOnDisk.values());
		expect(counted, "counted, of what was signed").toBeGreaterThanOrEqual(vouchers + charges);
		// A charge is counted before it is told.
		if (counted > vouchers + charges) expect(counted - vouchers - charges).toBeLessThanOrEqual(this.#chargesBegun());

		const charged = this.#stage.chargedOf(this.#agent);
		const paid = new Set(charged.map(({ name }) => name));
		expect(charged, "no request is charged twice").toHaveLength(paid.size);
		const open = this.#lives.flatMap(({ begun, ended }) => begun.filter((name) => !ended.has(name) && !paid.has(name)));
		const stranded = arrived.filter(({ status }) => status === 410).length;
		const ahead = BigInt(open.length + stranded) * PRICE + this.#step * BigInt(ids.length);
		expect(counted, "signed, of what was delivered or in flight at a kill").toBeLessThanOrEqual(
			sum(charged.map(({ amount }) => amount)) + ahead,
		);
		return kept;
	}

	#chargesBegun(): bigint {
		const died = this.#lives.filter((life) => life.died !== undefined);
		return BigInt(died.length) * PRICE;
	}

	/** What holds when the last process has ended well: all is paid for once, and the rest of each deposit is back. */
	async checkEnd(last: Life): Promise<Kept> {
		expect(last).toMatchObject({ isDone: true, failed: undefined });
		const kept = await this.checkStanding();
		const { records, counted } = kept;
		const charged = this.#stage.chargedOf(this.#agent);
		for (const { ended } of this.#lives)
			for (const [name, { status, error }] of ended) {
				if (error === LIMIT_REACHED) continue;
				expect({ name, status, error }).toEqual({ name, status: 200, error: undefined });
				expect(charged.filter((one) => one.name === name)).toHaveLength(1);
			}

		let rest = FUNDS - sum(charged.flatMap(({ intent, amount }) => (intent === "charge" ? [amount] : [])));
		for (const { state, status } of records) {
			const { channelId } = state;
			const signed = BigInt(state.signed);
			const onChain = await this.#stage.world.onChain({ channelId });
			const of = charged.filter((one) => one.channelId === channelId);
			const spent = sum(of.map(({ amount }) => amount));
			expect(spent).toBe(BigInt(of.length) * PRICE);
			this.#checkUnits(channelId, of.length);
			if (onChain === undefined) {
				// Its deposit was never taken, and never will be.
				expect({ status, spent }).toEqual({ status: "closed", spent: 0n });
				continue;
			}
			const ledger = await until("the server is done with the channel", async () => {
				const found = await this.#agent.server.ledger({ channelId });
				return found !== undefined && Object.keys(found.reservations).length === 0 ? found : undefined;
			});
			expect(ledger).toMatchObject({ spent });
			expect(ledger?.acceptedCumulative).toBeLessThanOrEqual(signed);
			if (this.#stage.forgotten.has(channelId)) {
				expect(onChain).toMatchObject({ finalized: false });
				if (status === "forgotten") expect(onChain.closeRequestedAt).not.toBe(0);
				rest -= onChain.deposit;
				continue;
			}
			expect({ channelId, status }).toEqual({ channelId, status: "closed" });
			expect(onChain).toMatchObject({ finalized: true, settled: spent });
			// Nothing that was signed and did not arrive is lost: it has paid for what came after.
			if (this.#step === 0n) expect(signed).toBe(spent);
			rest -= spent;
		}
		expect(await this.#stage.world.balance(this.#agent.address), "what the payer has in the end").toBe(rest);
		expect(counted).toBeGreaterThanOrEqual(sum(charged.map(({ amount }) => amount)));
		return kept;
	}

	/** Each delivered request stands for a price of its own, and is covered by what had arrived by then. */
	#checkUnits(channelId: Hex, deliveries: number): void {
		const charged = new Set(this.#stage.chargedOf(this.#agent).map(({ name }) => name));
		const arrived = this.#stage.arrivedAt([channelId]);
		const byName = new Map<string, Arrival>();
		let highest = 0n;
		for (const arrival of arrived) {
			const { action, name, method, status, spent, amount } = arrival;
			if (amount > highest) highest = amount;
			if (spent !== undefined) expect(highest, "arrived, of what was spent").toBeGreaterThanOrEqual(spent);
			const isDelivery =
				charged.has(name) && method === "GET" && (action === "open" || action === "voucher") && status === 200;
			// The last one: an answer about the channel alone, whose voucher did not reach, comes before the delivery (D11).
			if (isDelivery) byName.set(name, arrival);
		}
		const delivered = [...byName.values()];
		// One whose connection was cut by a kill has no answer that was noted.
		expect(delivered.length).toBeLessThanOrEqual(deliveries);
		const counts = delivered.map(({ spent }) => spent);
		expect(new Set(counts).size, "each delivery has a count of its own").toBe(counts.length);
		if (this.#step > 0n) return;
		const amounts = delivered.map(({ amount }) => amount);
		expect(new Set(amounts).size, "no voucher's amount pays for two requests").toBe(amounts.length);
		expect(amounts, "and none pays by less than one before").toEqual(
			amounts.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0)),
		);
	}
}
