/** What the random schedules have found, each as a case of its own. */
import type { Address } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ChannelBooks, type OpeningBalance } from "../../../src/client/books.ts";
import { createStage, type Stage } from "../stage.ts";
import {
	challengeOf,
	clientFor,
	codeOf,
	paymentRequired,
	receiptHeader,
	refusal,
	type Script,
	scriptedServer,
	sessionTerms,
	spyOn,
} from "../support.ts";
import { createFaultStage, DEAREST, type FaultStage, PRICE } from "./stage.ts";

describe("a price that rises while vouchers of other requests have left credit for it", () => {
	let stage: FaultStage;
	beforeAll(async () => {
		stage = await createFaultStage();
	});
	afterAll(() => stage.stop());

	it("is asked for anew, so that the client's count stays the server's", async () => {
		const { client, stand } = await stage.agent({ server: "plain", deposit: "large", wallet: "memory" });
		const get = async (path: string) => {
			const response = await client.fetch(`http://${stand.proxy.host}${path}`);
			expect(response.status).toBe(200);
			await response.arrayBuffer();
		};
		stand.reprice(false);
		for (const path of ["/session", "/priced"]) await get(path);
		stand.reprice(true);
		await Promise.all(["/session", "/session", "/priced", "/priced", "/session"].map(get));
		await get("/session");
		const [channel] = client.channels;
		if (channel === undefined) throw new Error("no channel");
		const spent = 6n * PRICE + 2n * DEAREST;
		expect(channel.consumed).toBe(spent);
		expect(await stand.server.ledger(channel)).toMatchObject({ spent });
	});
});

describe("a server that goes on to claim more than is owed, as one may that has lost its store (D10)", () => {
	const PAYEE: Address = `0x${"bb".repeat(20)}`;
	let stage: Stage;
	beforeAll(async () => {
		stage = await createStage();
	});
	afterAll(() => stage.stop());

	it("gets nothing more signed, and after three times its client goes on with another channel", async () => {
		const server = await scriptedServer();
		const spy = spyOn(await stage.payer());
		const agent = clientFor(stage, spy.account, [server.host]);
		const get = () => agent.fetch(server.url);
		const offer = () => challengeOf(sessionTerms(stage, PAYEE));
		const serving: Script = (call) =>
			call.credential === undefined
				? paymentRequired(offer())
				: {
						headers: receiptHeader(call, stage.chain.chainId, BigInt(String(call.credential.payload.cumulativeAmount))),
					};
		server.answer(serving);
		expect((await get()).status).toBe(200);
		server.answer(() => refusal("session/insufficient-balance", { requiredCumulative: "1000" }, offer()));
		for (let i = 0; i < 3; i++) expect(await codeOf(get())).toBe("OVERCHARGE");
		const [claimed] = agent.forgotten;
		expect(claimed).toMatchObject({ signed: 200n, consumed: 100n });
		server.answer(serving);
		expect((await get()).status).toBe(200);
		expect(spy.vouchers(claimed?.channelId)).not.toContain(1_000n);
		expect(agent.channels).toHaveLength(1);
		expect(agent.channels[0]?.channelId).not.toBe(claimed?.channelId);
		await server.stop();
	});
});

describe("a claim of one step of minVoucherDelta (D3)", () => {
	const books = (balance: Partial<OpeningBalance>) =>
		new ChannelBooks({
			...{ channelId: "0x00", deposit: 10_000n, signed: 1_100n, consumed: 950n, uncertain: 0n, isRecorded: true },
			...balance,
		});

	it("is refused where the next voucher would not take it: it would be claimed again and again", () => {
		const channel = books({});
		expect(channel.begin(100n, 250n)).toBe(1_100n);
		expect(() => channel.catchUp(1_350n, 100n, 250n)).toThrow(/at most 1050 is owed/);
	});

	it("is met where lost requests may have been charged, and the next voucher rises by it", () => {
		const channel = books({ uncertain: 100n });
		expect(channel.begin(100n, 250n)).toBe(1_100n);
		channel.catchUp(1_350n, 100n, 250n);
		channel.failed(100n);
		expect(channel.begin(100n, 250n)).toBe(1_350n);
	});
});
