import { randomUUID } from "node:crypto";
import { encodeFunctionData, type Hex, type LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CRASH_POINTS, type CrashPoint } from "../../src/cli/demo/crash.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { approveCall } from "../../src/escrow/calls.ts";
import { problemType } from "../../src/protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../src/voucher/index.ts";
import { chargeByPermit2, chargeByTransaction, rpc } from "../support/chargeDrafts.ts";
import { encode } from "../support/payer.ts";
import { moved, type Outcome, told } from "./outcome.ts";
import { type Answer, FUNDS, PRICE, Stage } from "./stage.ts";

const POINTS = Object.keys(CRASH_POINTS) as CrashPoint[];
const UNLIMITED = 2n ** 256n - 1n;

let stage: Stage;
beforeAll(async () => {
	stage = await Stage.create();
});
afterAll(() => stage?.stop());
beforeEach(() => stage.up());

/** A new payer with tokens and gas, who has approved Permit2. */
async function newPayer(): Promise<Readonly<{ account: LocalAccount; address: Hex }>> {
	const account = privateKeyToAccount(generatePrivateKey());
	const address = account.address.toLowerCase() as Hex;
	const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [address, FUNDS] });
	await stage.sendAs(stage.chain.account(0), { to: stage.token, data });
	await rpc(stage.chain.client, "anvil_setBalance", [address, "0x8ac7230489e80000"]);
	await stage.sendAs(account, approveCall(stage.token, CANONICAL_PERMIT2, UNLIMITED));
	return { account, address };
}

describe.each([
	{ type: "permit2", make: chargeByPermit2, transactions: 1 },
	{ type: "transaction", make: chargeByTransaction, transactions: 0 },
])("charge by $type, killed on its way (I4, I5, I6)", ({ make, transactions }) => {
	async function charge(point?: CrashPoint): Promise<Outcome> {
		const payer = await newPayer();
		const { challenge } = await stage.challenge("/charge");
		const draft = await make(stage, payer, challenge);
		const key = randomUUID();
		const send = () => stage.send("/charge", encode(draft), key);
		const { value, movements } = await moved(stage, payer, async (): Promise<Answer> => {
			if (point === undefined) return send();
			await stage.arm({ kind: "charge", point });
			await expect(send(), "an answer from a server that was to die").rejects.toThrow();
			expect(await stage.died()).toBe(`charge ${point}`);
			await stage.up();
			return send();
		});
		const replayed = await send();
		const otherwise = await stage.send("/charge", encode(draft), randomUUID());
		const fresh = { ...draft, challenge: (await stage.challenge("/charge")).challenge };
		const elsewhere = await stage.send("/charge", encode(fresh), randomUUID());
		return {
			answer: told(value),
			movements,
			isReplayed: JSON.stringify(replayed.body) === JSON.stringify(value.body),
			otherwise: { status: otherwise.status, type: otherwise.body.type },
			elsewhere: { status: elsewhere.status, type: elsewhere.body.type },
			pending: (await stage.inspect()).pending,
		};
	}

	const expected: Outcome = {
		answer: { status: 200, served: "number", hasReceipt: true },
		movements: { transactions, payer: -PRICE, payee: PRICE, escrow: 0n },
		isReplayed: true,
		otherwise: { status: 402, type: problemType("invalid-challenge") },
		elsewhere: { status: 402, type: problemType("verification-failed") },
		pending: [],
	};

	it("without a crash: the money moves once, one delivery", async () => {
		expect(await charge()).toEqual(expected);
	});

	for (const point of POINTS) {
		it(`comes to the same when the server dies ${CRASH_POINTS[point]}`, async () => {
			expect(await charge(point)).toEqual(expected);
		});
	}
});
