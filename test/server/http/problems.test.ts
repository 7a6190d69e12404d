import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, describe, expect, it } from "vitest";
import { PROBLEM_NAMES, type ProblemName, problemStatus, problemType } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { spareGas, topUpByAuthorization } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type Answer, DEPOSIT, type PaidServer, type Payer, PRICE, withPayload } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	server = await world.serve({ engine: { minVoucherDelta: 50n } });
	payer = await world.payer({ gas: true });
});

const stranger = privateKeyToAccount(generatePrivateKey());
const challenge = () => server.challenge("/session");

/** Each problem of the draft as a client meets it, and the values that it is told. */
const table: Readonly<Record<string, readonly [values: readonly string[], produce: () => Promise<Answer>]>> = {
	"session/invalid-signature": [
		["channelId"],
		async () => {
			const draft = await payer.voucher(await challenge(), await server.open(payer), PRICE);
			return server.pay("/session", withPayload(draft, { signature: `0x${"00".repeat(65)}` }));
		},
	],
	"session/signer-mismatch": [
		["channelId"],
		async () => {
			const channel = await server.open(payer);
			return server.pay("/session", await payer.voucher(await challenge(), channel, PRICE, { signer: stranger }));
		},
	],
	"session/amount-exceeds-deposit": [
		["channelId", "cumulativeAmount", "deposit"],
		async () => {
			const channel = await server.open(payer);
			return server.pay("/session", await payer.voucher(await challenge(), channel, DEPOSIT + 1n));
		},
	],
	"session/delta-too-small": [
		["channelId", "acceptedCumulative", "requiredCumulative", "minVoucherDelta"],
		async () => {
			const channel = await server.open(payer);
			expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
			return server.pay("/session", await payer.voucher(await challenge(), channel, PRICE + 49n));
		},
	],
	"session/channel-not-found": [
		["channelId"],
		async () => server.pay("/session", await payer.voucher(await challenge(), payer.channel(server.payee), PRICE)),
	],
	"session/channel-finalized": [
		["channelId"],
		async () => {
			const channel = await server.open(payer);
			expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 0n)));
			return server.pay("/session", await payer.voucher(await challenge(), channel, PRICE));
		},
	],
	"session/challenge-not-found": [
		[],
		async () => {
			const channel = await server.open(payer);
			const draft = await payer.voucher(await challenge(), channel, PRICE);
			return server.pay("/session", { ...draft, challenge: { ...draft.challenge, id: "unknown" } });
		},
	],
	"session/insufficient-balance": [
		["channelId", "requiredCumulative", "acceptedCumulative", "deposit"],
		async () => {
			const channel = await server.open(payer);
			return server.pay("/session", await payer.voucher(await challenge(), channel, PRICE - 1n));
		},
	],
	"session/transaction-reverted": [
		["channelId", "hash"],
		async () => {
			const channel = await server.open(payer);
			const draft = await topUpByAuthorization(payer, await challenge(), channel, PRICE);
			spareGas(server);
			const answer = await server.pay("/session", draft);
			server.rpc.up();
			return answer;
		},
	],
	"session/channel-closing": [
		["channelId", "closeRequestedAt"],
		async () => {
			const channel = await server.open(payer);
			await payer.requestClose(channel);
			server.clock.advance(15_001);
			return server.pay("/session", await payer.voucher(await challenge(), channel, PRICE));
		},
	],
};

describe("the problems of sessions", () => {
	it("are the draft's nine and channel-closing (D1, D18)", () => {
		const names = PROBLEM_NAMES.filter((name) => name.startsWith("session/"));
		expect(Object.keys(table).sort()).toEqual([...names].sort());
	});

	it.each(Object.entries(table))("%s is what a client meets, with its values", async (name, [values, produce]) => {
		const answer = await produce();
		expectRefusal(answer, name as ProblemName);
		expect(answer.header("content-type")).toMatch(/^application\/problem\+json\b/);
		expect(answer.problem).toMatchObject({
			type: `https://paymentauth.org/problems/${name}`,
			status: problemStatus(name as ProblemName),
			detail: expect.any(String),
		});
		expect(answer.problem?.type).toBe(problemType(name as ProblemName));
		for (const value of values) expect(answer.problem, value).toHaveProperty(value);
		// Never a selector, a signature or an error's name of the contract.
		expect(answer.text).not.toMatch(/0x[0-9a-f]{130}|\b[A-Z][a-z]+[A-Z]\w*\(|revert(?!ed)/);
	});
});
