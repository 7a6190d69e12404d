import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentHooks } from "../../../src/server/index.ts";
import { expectPaid } from "../../support/expect.ts";
import { payAt, Site } from "../../support/faces.ts";
import {
	createWorld,
	DEPOSIT,
	type LogLine,
	type PaidServer,
	type Payer,
	PRICE,
	standardRoutes,
	transactionOf,
	type World,
} from "../../support/world.ts";

type Told = [who: string, hook: string, event: Record<string, unknown>];

let world: World;
let payer: Payer;
let told: Told[];

/** Hooks that note what they are told under a name. */
const noting = (who: string): PaymentHooks => ({
	onVoucher: (event) => void told.push([who, "voucher", event]),
	onCharged: async (event) => void told.push([who, "charged", event]),
	onChannelOpened: (event) => void told.push([who, "opened", event]),
	onChannelClosed: async (event) => void told.push([who, "closed", event]),
});
const namesOf = (who: string) => told.filter(([name]) => name === who).map(([, hook]) => hook);

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
});
afterAll(() => world.stop());
beforeEach(() => {
	told = [];
});

async function everything(server: PaidServer) {
	const challenge = () => server.challenge("/session");
	const channel = payer.channel(server.payee);
	const opened = await server.pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT }));
	const bought = await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE));
	const charged = await server.pay(
		"/charge",
		await payer.charge(await server.challenge("/charge"), server.payee, PRICE),
	);
	const closed = await server.pay("/session", await payer.close(await challenge(), channel, PRICE));
	for (const answer of [opened, bought, charged, closed]) expectPaid(answer);
	return { channel, opened, charged, closed };
}

const ALL = ["opened", "voucher", "charged", "charged", "closed"];

describe("hooks", () => {
	it("of the engine are told of every payment, with its amounts, payer, channel, transaction and request", async () => {
		const server = await world.serve({ engine: { hooks: noting("engine") } });
		const { channel, charged, closed } = await everything(server);
		await expect.poll(() => namesOf("engine")).toEqual(ALL);
		const { channelId } = channel;
		const from = { payer: payer.address };
		expect(told.map(([, , event]) => event)).toMatchObject([
			{ ...from, channelId, deposit: DEPOSIT, txHash: expect.stringMatching(/^0x[0-9a-f]{64}$/) },
			{ ...from, channelId, acceptedCumulative: PRICE, delta: PRICE },
			{ ...from, intent: "session", amount: PRICE, channelId, method: "GET", url: "/session" },
			{ ...from, intent: "charge", amount: PRICE, txHash: transactionOf(charged), method: "GET", url: "/charge" },
			{ ...from, channelId, settledOnChain: PRICE, txHash: transactionOf(closed) },
		]);
	});

	it("of the plugin are told as long as their Fastify instance lives, of both faces' payments", async () => {
		const site = new Site({ "/other": { price: { price: PRICE }, serve: () => ({ body: "ok" }) } });
		const server = await world.serve({ engine: { hooks: noting("engine") }, plugin: { hooks: noting("plugin") } });
		const origin = await site.listen(server.engine);
		const channel = await server.open(payer);
		const voucher = async (amount: bigint) => payer.voucher(await server.challenge("/session"), channel, amount);
		expectPaid(await payAt(origin, "/other", await voucher(PRICE)));
		await expect.poll(() => namesOf("plugin")).toEqual(["opened", "voucher", "charged"]);
		expect(namesOf("engine")).toEqual(namesOf("plugin"));
		const draft = await voucher(2n * PRICE);
		await server.closeApp();
		expectPaid(await payAt(origin, "/other", draft));
		await expect.poll(() => namesOf("engine")).toHaveLength(5);
		expect(namesOf("plugin")).toHaveLength(3);
		await site.stop();
	});

	it("that observe are told from then on, until they are stopped", async () => {
		const server = await world.serve();
		const channel = await server.open(payer);
		const buy = async (n: bigint) =>
			server.pay("/session", await payer.voucher(await server.challenge("/session"), channel, n * PRICE));
		const stop = server.engine.observe(noting("observer"));
		const stopOther = server.engine.observe(noting("other"));
		expectPaid(await buy(1n));
		stop();
		stop();
		expectPaid(await buy(2n));
		await expect.poll(() => namesOf("other")).toEqual(["voucher", "charged", "voucher", "charged"]);
		expect(namesOf("observer")).toEqual(["voucher", "charged"]);
		stopOther();
	});

	it("may leave out what they are not interested in", async () => {
		const amounts: bigint[] = [];
		const server = await world.serve({ engine: { hooks: { onCharged: ({ amount }) => void amounts.push(amount) } } });
		await everything(server);
		await expect.poll(() => amounts).toEqual([PRICE, PRICE]);
	});

	it("that throw, reject or never end change nothing: answers, money and other hooks are as they were; it is logged", async () => {
		const logs: LogLine[] = [];
		const failing: PaymentHooks = {
			onVoucher: () => {
				throw new Error("a hook broke");
			},
			onCharged: () => Promise.reject(new Error("a hook broke")),
			onChannelOpened: () => new Promise(() => undefined),
			onChannelClosed: () => {
				throw "not even an error";
			},
		};
		const server = await world.serve({ logs, engine: { hooks: failing } });
		server.engine.observe(noting("after"));
		const { channel } = await everything(server);
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
		await expect.poll(() => namesOf("after")).toEqual(ALL);
		const failures = logs.filter(({ message }) => message === "a payment hook failed").map(({ values }) => values);
		expect(failures).toMatchObject([
			{ hook: "onVoucher", reason: "Error: a hook broke" },
			{ hook: "onCharged" },
			{ hook: "onCharged" },
			{ hook: "onChannelClosed", reason: "unknown error" },
		]);
	});

	it("are told nothing of what is refused, fails or is repeated", async () => {
		const server = await world.serve({
			engine: { hooks: noting("engine") },
			routes: async (app, kit) => {
				await standardRoutes(app, kit);
				app.get(
					"/fails",
					{ config: { payment: { price: PRICE } } },
					kit.handler("/fails", () => {
						throw new Error("no luck");
					}),
				);
			},
		});
		const channel = await server.open(payer);
		const draft = await payer.voucher(await server.challenge("/session"), channel, PRICE);
		expect((await server.pay("/fails", draft)).status).toBe(500);
		expectPaid(await server.pay("/session", draft, { key: "k" }));
		for (let n = 0; n < 3; n++) await server.pay("/session", draft, { key: "k" });
		for (let n = 0; n < 3; n++) await server.pay("/session", draft);
		await server.send("/session");
		await expect.poll(() => namesOf("engine")).toEqual(["opened", "voucher", "charged"]);
	});
});
