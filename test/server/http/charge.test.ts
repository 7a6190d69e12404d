import { encodeFunctionData, parseAbi } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { readTokenDomain } from "../../../src/escrow/reads.ts";
import type { Challenge } from "../../../src/protocol/index.ts";
import { blocklistTokenBytecode } from "../../model/generated/doubles.ts";
import { expectOneServed, tenTimes } from "../../support/atOnce.ts";
import { deployContract, hideFrom, mintOf, SOON } from "../../support/chargeDrafts.ts";
import {
	CHARGE,
	chargeRoutes,
	costsNothing,
	crashInHandler,
	expectDeliveredOnce,
	expectFirstServed,
	expectPaidByUs,
	type Free,
} from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	type ChargeOptions,
	type Draft,
	FUNDS,
	type PaidServer,
	Payer,
	PRICE,
	type Routes,
	standardRoutes,
	transactionOf,
	withPayload,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

const routes = chargeRoutes(CHARGE, {
	"/dear": { ...CHARGE, price: 2n * PRICE },
	"/order": { ...CHARGE, externalId: "o-1" },
});

beforeEach(async () => {
	payer = await world.payer();
	server = await world.serve({ routes });
});

const stranger = privateKeyToAccount(generatePrivateKey());
const nowSeconds = () => BigInt(Math.floor(server.clock.now() / 1_000));
async function credential(path = "/charge", options: ChargeOptions = {}, challenge?: Challenge): Promise<Draft> {
	return payer.charge(challenge ?? (await server.challenge(path)), server.payee, PRICE, options);
}

/** Nothing moved, no gas was spent, no handler ran. */
const free: Free = (action) => costsNothing({ world, server, payer }, action);

const expectPaidOnce = () => expectPaidByUs({ world, server, payer });

describe("a charge", () => {
	it("moves exactly the price, in one transaction of ours, and is served with a receipt for it", async () => {
		const draft = await credential();
		const answer = await server.pay("/charge", draft);
		expectFirstServed(world, draft, answer, transactionOf(answer));
		const receipt = await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) });
		expect(receipt).toMatchObject({ status: "success", from: server.payee, to: world.token });
		await expectPaidOnce();
		expect(await world.chain.client.getTransactionCount({ address: payer.address })).toBe(0);
	});

	it("names the merchant's reference in its receipt", async () => {
		const answer = await server.pay("/order", await credential("/order"));
		expect(answer.receipt).toMatchObject({ externalId: "o-1" });
	});

	it("is delivered once: the same credential again is 402 invalid-challenge (I4)", async () => {
		const draft = await credential();
		await expectDeliveredOnce(server, draft, free);
		await expectPaidOnce();
	});

	it("with an Idempotency-Key is answered again, not charged again, and by nobody else's credential (I3, I6)", async () => {
		const draft = await credential();
		const first = await server.pay("/charge", draft, { key: "k" });
		expectPaid(first);
		for (const restart of [false, true]) {
			if (restart) await server.restart();
			const again = await free(() => server.pay("/charge", draft, { key: "k" }));
			expect({ status: again.status, text: again.text, receipt: again.receipt }).toEqual({
				status: first.status,
				text: first.text,
				receipt: first.receipt,
			});
		}
		// The same payer with the same key and a fresh challenge: the request was paid for already.
		const fresh = await credential();
		expect((await free(() => server.pay("/charge", fresh, { key: "k" }))).text).toBe(first.text);
		const forged = await credential("/charge", { signer: stranger });
		expectRefusal(await free(() => server.pay("/charge", forged, { key: "k" })), "verification-failed");
		expectRefusal(await free(() => server.pay("/charge", draft, { key: "other" })), "invalid-challenge");
		await expectPaidOnce();
	});

	it("sent ten times at once is one transaction and one delivery (I4, I6)", async () => {
		const draft = await credential();
		expectOneServed(await tenTimes(server, "/charge", draft), "invalid-challenge");
		expect(server.calls("/charge")).toBe(1);
		await expectPaidOnce();
	});

	it("of two payers for one challenge is taken from the first only (D9)", async () => {
		const one = await server.challenge("/charge");
		const other = await world.payer();
		const drafts = [await payer.charge(one, server.payee, PRICE), await other.charge(one, server.payee, PRICE)];
		const answers = await Promise.all(drafts.map((draft) => server.pay("/charge", draft)));
		expect(answers.map(({ status }) => status).sort()).toEqual([200, 402]);
		expect((await world.balance(payer.address)) + (await world.balance(other.address))).toBe(2n * FUNDS - PRICE);
		expect(server.calls("/charge")).toBe(1);
		const late = await (await world.payer()).charge(one, server.payee, PRICE);
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", late)), "invalid-challenge");
	});

	it("of one payer with one Idempotency-Key at the same time moves money once, whatever the challenges (I6)", async () => {
		const drafts = [await credential(), await credential(), await credential()];
		const answers = await Promise.all(drafts.map((draft) => server.pay("/charge", draft, { key: "k" })));
		expect(server.calls("/charge")).toBe(1);
		for (const { status } of answers) expect([200, 402, 409]).toContain(status);
		await expectPaidOnce();
	});

	it("on HEAD is refused before any money moves (D11)", async () => {
		const draft = await credential();
		const answer = await free(() => server.pay("/charge", draft, { method: "HEAD" }));
		expect(answer.status).toBe(402);
		expect(answer.challenges.length).toBe(1);
		expectPaid(await server.pay("/charge", draft));
	});

	it.each(["close", "topUp", "open", "voucher"])(
		"whose payload also says action %s is served, or refused before any money moves (I7)",
		async (action) => {
			const draft = withPayload(await credential(), { action });
			const answer = await server.pay("/charge", draft);
			const moved = FUNDS - (await world.balance(payer.address));
			expect([answer.status, server.calls("/charge"), moved]).toEqual(
				answer.status === 200 ? [200, 1, PRICE] : [answer.status, 0, 0n],
			);
		},
	);
});

describe("a charge that is refused costs nothing", () => {
	const cases: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["another amount", () => credential("/charge", { value: PRICE - 1n })],
		["a larger amount", () => credential("/charge", { value: PRICE + 1n })],
		["another recipient", () => credential("/charge", { to: stranger.address })],
		["another nonce", () => credential("/charge", { nonce: `0x${"33".repeat(32)}` })],
		["somebody else's signature", () => credential("/charge", { signer: stranger })],
		["somebody else's money", () => credential("/charge", { from: stranger.address })],
		["a signature of zeros", async () => withPayload(await credential(), { signature: `0x${"00".repeat(65)}` })],
		[
			"a value that was not signed",
			async () => withPayload(await credential("/charge", { value: 1n }), { value: String(PRICE) }),
		],
		["an authorization that has expired", () => credential("/charge", { validBefore: nowSeconds() - 1n })],
		["an authorization about to expire", () => credential("/charge", { validBefore: nowSeconds() + 2n })],
		["an authorization not valid yet", () => credential("/charge", { validAfter: nowSeconds() + 60n })],
	];

	it.each(cases)("for %s", async (_title, make) => {
		const draft = await make();
		expectRefusal(await free(() => server.pay("/charge", draft)), "verification-failed");
	});

	it("for a payer who cannot pay: found out before any gas is spent", async () => {
		payer = await world.payer({ funds: PRICE - 1n });
		const draft = await credential();
		const answer = await free(() => server.pay("/charge", draft));
		expectRefusal(answer, "verification-failed");
		expect(answer.problem).toMatchObject({ amount: String(PRICE), balance: String(PRICE - 1n) });
		expect(await server.ledger({ channelId: `0x${"00".repeat(32)}` })).toBeUndefined();
	});

	it("for a transfer that the token refuses: found out by simulation, no gas is spent", async () => {
		const token = await deployContract(world, blocklistTokenBytecode);
		await mintOf(world, token, payer.address, FUNDS);
		const abi = parseAbi(["function setBlocked(address account, bool blocked)"]);
		const setBlocked = async (blocked: boolean) => {
			const data = encodeFunctionData({ abi, functionName: "setBlocked", args: [payer.address, blocked] });
			await (await world.payer({ gas: true })).sendBlind({ to: token, data });
		};
		await setBlocked(true);
		server = await world.serve({ routes, token });
		const domain = await readTokenDomain(world.chain.client, token, world.chain.chainId);
		const challenge = await server.challenge("/charge");
		const one = new Payer({ ...world, ...world.chain, account: payer.account, token, tokenDomain: domain });
		const draft = await one.charge(challenge, server.payee, PRICE);
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "verification-failed");
		await setBlocked(false);
		expectPaid(await server.pay("/charge", draft));
	});

	it("for an expired challenge", async () => {
		const draft = await credential("/charge", { validBefore: nowSeconds() + 10_000n });
		server.clock.advance(301_000);
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
	});

	it("for another price than this request's, by route or since a change (D9)", async () => {
		const [cheap, dear] = [
			await credential(),
			await payer.charge(await server.challenge("/dear"), server.payee, 2n * PRICE),
		];
		expectRefusal(await free(() => server.pay("/dear", cheap)), "invalid-challenge");
		expectRefusal(await free(() => server.pay("/charge", dear)), "invalid-challenge");
		await server.restart({
			routes: (app, { handler }) => {
				app.get("/charge", { config: { payment: { price: PRICE + 1n, intent: "charge" } } }, handler("/charge"));
			},
		});
		const answer = await free(() => server.pay("/charge", cheap));
		expectRefusal(answer, "invalid-challenge");
	});

	it("for the other intent: a session's challenge on a charge, and the other way round", async () => {
		const session = await server.challenge("/session");
		expectRefusal(
			await free(async () => server.pay("/charge", await credential("", {}, session))),
			"session/challenge-not-found",
		);
		const draft = await credential();
		expectRefusal(await free(() => server.pay("/session", draft)), "invalid-challenge");
	});
});

describe("a charge whose money has moved but whose handler failed", () => {
	it("is delivered later to the same credential, once (I4, I7)", async () => {
		const draft = await credential("/once");
		expect((await server.pay("/once", draft)).status).toBe(500);
		await expectPaidOnce();
		const answer = await server.pay("/once", draft);
		expectPaid(answer);
		expectRefusal(await free(() => server.pay("/once", draft)), "invalid-challenge");
		await expectPaidOnce();
	});

	it("is delivered to the same Idempotency-Key, and not charged again, under a fresh challenge too (I6)", async () => {
		expect((await server.pay("/once", await credential("/once"), { key: "k" })).status).toBe(500);
		expectPaid(await server.pay("/once", await credential("/once"), { key: "k" }));
		await expectPaidOnce();
	});

	it("is delivered later to a client that left while it was mined", async () => {
		const draft = await credential();
		const leaving = new AbortController();
		hideFrom(server);
		const cut = server.pay("/charge", draft, { signal: leaving.signal }).catch(() => "cut");
		await expect.poll(() => world.balance(server.payee), SOON).toBe(PRICE);
		leaving.abort();
		expect(await cut).toBe("cut");
		server.rpc.up();
		await expect.poll(async () => (await server.pay("/charge", draft)).status, SOON).toBe(200);
		await expectPaidOnce();
	});

	it("also when its challenge has expired and the server was restarted and has cleaned up", async () => {
		const draft = await credential("/once");
		expect((await server.pay("/once", draft)).status).toBe(500);
		server.clock.advance(3_600_000);
		await server.restart({ routes: standardRoutesAndOnce });
		await server.store.prune(server.clock.now());
		expectPaid(await server.pay("/once", draft));
		expectRefusal(await free(() => server.pay("/once", draft)), "invalid-challenge");
		await expectPaidOnce();
	});

	it("also when the server crashed while it ran, long before anybody asks again (I5, I7)", async () => {
		const draft = await credential();
		await crashInHandler(server, "/charge", draft);
		expectPaid(await server.pay("/charge", draft));
		await expectPaidOnce();
	});

	it("also when its transaction took longer than its challenge lives (I7)", async () => {
		await server.restart({ engine: { limits: { transactionTimeoutMs: 300 } } });
		const draft = await credential("/charge", { validBefore: nowSeconds() + 100_000n });
		hideFrom(server);
		expectRefusal(await server.pay("/charge", draft), "service-unavailable");
		server.clock.advance(3_600_000);
		await server.store.prune(server.clock.now());
		server.rpc.up();
		const answer = await server.pay("/charge", draft);
		expect(await world.balance(server.payee)).toBe(PRICE);
		expectPaid(answer);
	});

	const standardRoutesAndOnce: Routes = async (app, kit) => {
		await standardRoutes(app, kit);
		app.get("/once", { config: { payment: CHARGE } }, kit.handler("/once"));
	};
});
