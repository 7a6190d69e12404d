import { type Address, encodeFunctionData, parseAbi } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { approveCall } from "../../../src/escrow/calls.ts";
import { findTransfers } from "../../../src/escrow/events.ts";
import { readBalance } from "../../../src/escrow/reads.ts";
import type { Challenge } from "../../../src/protocol/index.ts";
import { OfferError } from "../../../src/server/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { blocklistTokenBytecode } from "../../model/generated/doubles.ts";
import { tenTimes } from "../../support/atOnce.ts";
import {
	approvedPayer,
	changeLogs,
	chargeByHash,
	chargeByPermit2,
	chargeByTransaction,
	deployContract,
	hideFrom,
	mintOf,
	type PermitOptions,
	payOnChain,
	requestOf,
	SOON,
	transfersFor,
} from "../../support/chargeDrafts.ts";
import { costsNothing, type Free } from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	type Draft,
	FUNDS,
	type PaidServer,
	type Payer,
	type Routes,
	standardRoutes,
	transactionOf,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

const PRICE = 1_000n;
const address = () => privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as `0x${string}`;
/** New for each test. */
let platform = address();
let author = address();
const FEE = 50n;
const SHARE = 150n;

const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const splits = [
		{ recipient: platform, amount: FEE, memo: "platform fee" },
		{ recipient: author, amount: SHARE },
	];
	const split = { price: PRICE, intent: "charge" as const, splits };
	app.get("/split", { config: { payment: split } }, kit.handler("/split"));
	app.get("/many", { config: { payment: { ...split, splits: tenSplits() } } }, kit.handler("/many"));
};

function tenSplits() {
	return Array.from({ length: 10 }, (_, index) => ({ recipient: index < 5 ? platform : author, amount: 10n }));
}

beforeEach(async () => {
	[platform, author] = [address(), address()];
	payer = await approvedPayer(world);
	server = await world.serve({ routes });
});

async function credential(options: PermitOptions = {}, path = "/split", challenge?: Challenge): Promise<Draft> {
	return chargeByPermit2(world, payer, challenge ?? (await server.challenge(path)), options);
}

/** Nothing moved, no gas was spent, no handler ran. */
const free: Free = (action) => costsNothing({ world, server, payer }, action);

async function expectSplitOnce(): Promise<void> {
	const holders = [payer.address, server.payee, platform, author];
	const balances = await Promise.all(holders.map((holder) => world.balance(holder)));
	expect(balances).toEqual([FUNDS - PRICE, PRICE - FEE - SHARE, FEE, SHARE]);
	expect(await server.transactions()).toBe(1);
}

describe("splits", () => {
	it("a charge with splits moves every part in one transaction, the remainder to the recipient", async () => {
		const answer = await server.pay("/split", await credential());
		expectPaid(answer);
		expect(answer.receipt).toMatchObject({ reference: transactionOf(answer) });
		const receipt = await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) });
		expect(receipt).toMatchObject({ from: server.payee, to: CANONICAL_PERMIT2 });
		expect(findTransfers(receipt, world.token).map(({ to, value }) => [to, value])).toEqual([
			[server.payee, PRICE - FEE - SHARE],
			[platform, FEE],
			[author, SHARE],
		]);
		await expectSplitOnce();
	});

	it.each(["draft", "eip712"] as const)("a batch is taken with the witness spelt as in %s", async (form) => {
		expectPaid(await server.pay("/split", await credential({ form })));
		await expectSplitOnce();
	});

	it("ten splits are paid, several to one account each by a transfer of its own", async () => {
		expectPaid(await server.pay("/many", await credential({}, "/many")));
		const balances = await Promise.all([server.payee, platform, author].map((holder) => world.balance(holder)));
		expect(balances).toEqual([PRICE - 100n, 50n, 50n]);
	});

	it("of five equal splits each needs a transfer of its own in the transaction's logs", async () => {
		const draft = await credential({}, "/many");
		hideFrom(server);
		const paying = server.pay("/many", draft);
		await expect.poll(() => world.balance(server.payee), SOON).toBe(PRICE - 100n);
		const { transactions } = await world.chain.client.getBlock();
		await changeLogs(world, server, transactions[0] ?? "0x", (logs) => logs.toSpliced(1, 1));
		expectRefusal(await paying, "verification-failed");
		expect(server.calls("/many")).toBe(0);
	});

	it("a challenge with splits states them in their order, and permit2 as the only type", async () => {
		const { amount, methodDetails } = requestOf(await server.challenge("/split"));
		expect(amount).toBe(PRICE);
		expect(methodDetails).toMatchObject({
			credentialTypes: ["permit2"],
			splits: [
				{ recipient: platform, amount: FEE, memo: "platform fee" },
				{ recipient: author, amount: SHARE },
			],
		});
	});

	it("sent ten times at once is one batch and one delivery, after a restart too (I4)", async () => {
		const draft = await credential();
		const answers = await tenTimes(server, "/split", draft);
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		await server.restart();
		expectRefusal(await free(() => server.pay("/split", draft)), "invalid-challenge");
		expect(server.calls("/split")).toBe(1);
		await expectSplitOnce();
	});
});

describe("splits, refused", () => {
	type Parts = ReturnType<typeof transfersFor>;
	const cases: readonly (readonly [title: string, change: (parts: Parts) => Parts])[] = [
		["splits swapped", ([primary, one, two]) => [primary, two, one] as Parts],
		["a split left out", ([primary, one]) => [primary, one] as Parts],
		["no split at all", ([primary]) => [primary] as Parts],
		["one too many", (parts) => [...parts, { to: author, requestedAmount: 1n }]],
		["another recipient", ([primary, one, two]) => [primary, { ...one, to: author }, two] as Parts],
		["the splits first", ([primary, ...splits]) => [...splits, primary] as Parts],
		["a split of more", ([primary, one, two]) => [primary, { ...one, requestedAmount: FEE + 1n }, two] as Parts],
		[
			"the whole amount for the recipient",
			([primary, ...splits]) => [{ ...primary, requestedAmount: PRICE }, ...splits] as Parts,
		],
	];

	it.each(cases)(
		"a permit is refused before any gas whose transfers differ in token, order, recipient or amount: %s",
		async (_title, change) => {
			const challenge = await server.challenge("/split");
			const transferDetails = change(transfersFor(requestOf(challenge)));
			const draft = await credential({ transferDetails }, "/split", challenge);
			expectRefusal(await free(() => server.pay("/split", draft)), "verification-failed");
			expect(await world.balance(platform)).toBe(0n);
		},
	);

	it.each([0, 1, 2])(
		"a permit is refused before any gas whose transfers differ in token, order, recipient or amount: another token in entry %i",
		async (at) => {
			const challenge = await server.challenge("/split");
			const permitted = transfersFor(requestOf(challenge)).map(({ requestedAmount }, index) => ({
				token: index === at ? world.escrow : world.token,
				amount: requestedAmount,
			}));
			const draft = await credential({ permitted }, "/split", challenge);
			expectRefusal(await free(() => server.pay("/split", draft)), "verification-failed");
		},
	);

	it("a charge with splits offers permit2 alone, and is refused by every other type before any gas", async () => {
		const fresh = () => server.challenge("/split");
		const hash = await payOnChain(payer, await fresh());
		const drafts = [
			await payer.charge(await fresh(), server.payee, PRICE),
			await payer.charge(await fresh(), server.payee, PRICE - FEE - SHARE),
			await chargeByTransaction(world, payer, await fresh()),
			chargeByHash(world, payer, await fresh(), hash),
		];
		for (const draft of drafts) {
			const answer = await free(() => server.pay("/split", draft));
			expectRefusal(answer, "verification-failed");
			expect(answer.challenges.map((one) => requestOf(one).methodDetails.credentialTypes)).toEqual([["permit2"]]);
		}
		expect(await world.balance(platform)).toBe(0n);
	});

	it("a batch that would revert is found out by simulation, no gas is spent", async () => {
		// Balance and allowance are there; the token refuses the last of three transfers.
		const token = await deployContract(world, blocklistTokenBytecode);
		await mintOf(world, token, payer.address, FUNDS);
		await payer.sendBlind(approveCall(token, CANONICAL_PERMIT2, FUNDS));
		await setBlocked(token, true);
		server = await world.serve({ routes, token });
		const draft = await credential();
		const answer = await unchanged(server, [], () => server.pay("/split", draft));
		expectRefusal(answer, "verification-failed");
		const { client } = world.chain;
		expect(await readBalance(client, token, payer.address)).toBe(FUNDS);
		await setBlocked(token, false);
		expectPaid(await server.pay("/split", draft));
		expect(await readBalance(client, token, author)).toBe(SHARE);
	});

	async function setBlocked(token: Address, blocked: boolean): Promise<void> {
		const abi = parseAbi(["function setBlocked(address account, bool blocked)"]);
		const data = encodeFunctionData({ abi, functionName: "setBlocked", args: [author, blocked] });
		await payer.sendBlind({ to: token, data });
	}

	it.each<readonly [string, (splits: readonly { recipient: `0x${string}`; amount: bigint }[]) => unknown]>([
		["leave nothing", () => [{ recipient: platform, amount: PRICE }]],
		["leave less than nothing", () => [{ recipient: platform, amount: PRICE + 1n }]],
		["are empty", () => []],
		["are eleven", () => [...tenSplits(), { recipient: platform, amount: 1n }]],
		["are to nobody", () => [{ recipient: "0x", amount: 1n }]],
		["are of nothing", () => [{ recipient: platform, amount: 0n }]],
	])(
		"splits that leave nothing for the recipient, are empty, more than ten or to nobody are refused when the route is declared: %s",
		async (_title, splits) => {
			const price = { price: PRICE, intent: "charge" as const, splits: splits([]) };
			expect(() => server.engine.offers("GET /x", price as never)).toThrow(OfferError);
		},
	);

	it("a split that is changed between challenge and payment makes the challenge unknown (D9)", async () => {
		const draft = await credential();
		await server.restart({
			routes: (app, { handler }) => {
				const splits = [{ recipient: author, amount: FEE + SHARE }];
				app.get("/split", { config: { payment: { price: PRICE, intent: "charge", splits } } }, handler("/split"));
			},
		});
		expectRefusal(await free(() => server.pay("/split", draft)), "invalid-challenge");
	});
});
