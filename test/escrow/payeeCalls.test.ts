import fc from "fast-check";
import {
	bytesToHex,
	decodeErrorResult,
	decodeFunctionData,
	type Hex,
	type PublicClient,
	parseEventLogs,
	recoverAddress,
	type TransactionReceipt,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Call } from "../../src/escrow/calls.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import {
	BatchSignatureError,
	closeCall,
	closeManyCall,
	closeWithAuthorizationCall,
	type SettlementRow,
	settleCall,
	settleManyCall,
	settleWithAuthorizationCall,
} from "../../src/escrow/payeeCalls.ts";
import { isPayeeNonceUsed } from "../../src/escrow/reads.ts";
import {
	type PayeeAuthorization,
	type PayeeAuthorizationKind,
	payeeAuthorizationDigest,
	signPayeeAuthorization,
	signVoucher,
	type VoucherDomain,
	voucherDigest,
} from "../../src/voucher/index.ts";
import { assemble, bytes32, ORDER, privateKey, uint } from "../voucher/support.ts";
import { type Account, createPayeeStage, DEPOSIT, type PayeeStage } from "./payeeStage.ts";
import { rpc } from "./support.ts";

const FOREVER = 2n ** 40n;
const KINDS = ["settle", "close"] as const;

let stage: PayeeStage;
let client: PublicClient;
let domain: VoucherDomain;
/** New for each test; has gas. */
let payee: Account;
let relayer: Account;

beforeAll(async () => {
	stage = await createPayeeStage();
	client = stage.chain.client;
	({ domain, relayer } = stage);
});
afterAll(() => stage?.chain.stop());

beforeEach(async () => {
	payee = await stage.payee({ gas: true });
});

/** Both signatures for one settlement or close. */
async function authorized(kind: PayeeAuthorizationKind, authorization: PayeeAuthorization, signer = payee) {
	return {
		...authorization,
		payeeSignature: await signPayeeAuthorization(kind, signer, domain, authorization),
		voucherSignature: await signVoucher(stage.payer, domain, authorization),
	};
}

const authorizedCall = { settle: settleWithAuthorizationCall, close: closeWithAuthorizationCall } as const;

/** Which rows a batch skipped, and why. */
function skipped({ logs }: TransactionReceipt): readonly (readonly [Hex, string])[] {
	return parseEventLogs({ abi: paymentChannelEscrowAbi, eventName: "SettlementSkipped", logs: [...logs] }).map(
		({ args }) => [args.channelId, decodeErrorResult({ abi: paymentChannelEscrowAbi, data: args.reason }).errorName],
	);
}

describe("the payee's own calls", () => {
	it("settle what a voucher has beyond the settled amount, and leave the channel open", async () => {
		const channelId = await stage.open(payee);
		for (const [amount, received] of [
			[120n, 120n],
			[200n, 200n],
		] as const) {
			const { signature } = await stage.voucher(channelId, amount);
			await stage.send(settleCall(stage.escrow, channelId, amount, signature), payee);
			expect(await stage.balance(payee)).toBe(received);
			expect(await stage.channel(channelId)).toMatchObject({ settled: amount, deposit: DEPOSIT, finalized: false });
		}
		const { signature } = await stage.voucher(channelId, 200n);
		expect(await stage.refusal(settleCall(stage.escrow, channelId, 200n, signature), payee)).toBe(
			"AmountNotIncreasing",
		);
		expect(await stage.refusal(settleCall(stage.escrow, channelId, 201n, signature), payee)).toBe("InvalidSignature");
		expect(await stage.refusal(settleCall(stage.escrow, channelId, 201n, signature), relayer)).toBe("NotPayee");
	});

	it("close a channel: the voucher to the payee, the rest to the payer", async () => {
		const channelId = await stage.open(payee);
		const before = await stage.balance(stage.payer);
		const { signature } = await stage.voucher(channelId, 150n);
		await stage.send(closeCall(stage.escrow, channelId, 150n, signature), payee);
		expect(await stage.balance(payee)).toBe(150n);
		expect(await stage.balance(stage.payer)).toBe(before + DEPOSIT - 150n);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 150n, finalized: true });
	});

	it("settle many channels at once, and skip what is bad without disturbing the others", async () => {
		const ids = [
			await stage.open(payee),
			await stage.open(payee),
			await stage.open(payee),
			await stage.open(payee),
		] as const;
		const rows = await Promise.all([
			stage.voucher(ids[0], 10n),
			stage.voucher(ids[1], 20n),
			stage.voucher(ids[2], DEPOSIT + 1n),
			stage.voucher(ids[3], 40n),
		]);
		const forged = { ...rows[1], cumulativeAmount: 21n };
		const receipt = await stage.send(settleManyCall(stage.escrow, [rows[0], forged, rows[2], rows[3]]), payee);
		expect(skipped(receipt)).toEqual([
			[ids[1], "InvalidSignature"],
			[ids[2], "AmountExceedsDeposit"],
		]);
		expect(await stage.balance(payee)).toBe(50n);
		const settled = (await Promise.all(ids.map(stage.channel))).map((channel) => channel?.settled);
		expect(settled).toEqual([10n, 0n, 0n, 40n]);
	});

	it("close many channels at once, without a signature where nothing more is asked for", async () => {
		const ids = [
			await stage.open(payee),
			await stage.open(payee),
			await stage.open(payee),
			await stage.open(payee),
		] as const;
		const early = await stage.voucher(ids[1], 30n);
		await stage.send(settleCall(stage.escrow, early.channelId, early.cumulativeAmount, early.signature), payee);
		const before = await stage.balance(stage.payer);
		const rows: readonly SettlementRow[] = [
			await stage.voucher(ids[0], 100n),
			{ channelId: ids[1], cumulativeAmount: 30n, signature: "0x" },
			{ channelId: ids[2], cumulativeAmount: 0n, signature: "0x" },
			{ channelId: ids[3], cumulativeAmount: 1n, signature: "0x" },
		];
		const receipt = await stage.send(closeManyCall(stage.escrow, rows), payee);
		expect(skipped(receipt)).toEqual([[ids[3], "InvalidSignature"]]);
		expect(await stage.balance(payee)).toBe(130n);
		expect(await stage.balance(stage.payer)).toBe(before + (DEPOSIT - 100n) + (DEPOSIT - 30n) + DEPOSIT);
		const channels = await Promise.all(ids.map(stage.channel));
		expect(channels.map((channel) => channel?.finalized)).toEqual([true, true, true, false]);
	});
});

describe("calls by authorization, sent by one who is neither payer nor payee", () => {
	it("settle: the payee is paid without a transaction of its own", async () => {
		const channelId = await stage.open(payee);
		const gas = await client.getBalance({ address: payee.address });
		const signed = await authorized("settle", { channelId, cumulativeAmount: 70n, nonce: 0n, deadline: FOREVER });
		expect(await isPayeeNonceUsed(client, stage.escrow, channelId, 0n)).toBe(false);
		await stage.send(settleWithAuthorizationCall(stage.escrow, signed), relayer);
		expect(await isPayeeNonceUsed(client, stage.escrow, channelId, 0n)).toBe(true);
		expect(await isPayeeNonceUsed(client, stage.escrow, channelId, 1n)).toBe(false);
		expect(await stage.balance(payee)).toBe(70n);
		expect(await stage.balance(relayer)).toBe(0n);
		expect(await client.getBalance({ address: payee.address })).toBe(gas);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 70n, finalized: false });
	});

	it("close: the voucher to the payee, the rest to the payer, and every nonce is used up", async () => {
		const channelId = await stage.open(payee);
		const before = await stage.balance(stage.payer);
		const signed = await authorized("close", { channelId, cumulativeAmount: 80n, nonce: 5n, deadline: FOREVER });
		await stage.send(closeWithAuthorizationCall(stage.escrow, signed), relayer);
		expect(await stage.balance(payee)).toBe(80n);
		expect(await stage.balance(stage.payer)).toBe(before + DEPOSIT - 80n);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 80n, finalized: true });
		expect(await isPayeeNonceUsed(client, stage.escrow, channelId, 6n)).toBe(true);
	});

	it("close up to what was settled without a voucher's signature", async () => {
		const channelId = await stage.open(payee);
		const signed = await authorized("close", { channelId, cumulativeAmount: 0n, nonce: 0n, deadline: FOREVER });
		await stage.send(closeWithAuthorizationCall(stage.escrow, { ...signed, voucherSignature: "0x" }), relayer);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 0n, finalized: true });
		expect(await stage.balance(payee)).toBe(0n);
	});

	it.each(KINDS)("are refused with a nonce that a settlement has used (I4): %s", async (kind) => {
		const channelId = await stage.open(payee);
		const first = await authorized("settle", { channelId, cumulativeAmount: 70n, nonce: 3n, deadline: FOREVER });
		await stage.send(settleWithAuthorizationCall(stage.escrow, first), relayer);
		const again = await authorized(kind, { channelId, cumulativeAmount: 90n, nonce: 3n, deadline: FOREVER });
		expect(await stage.refusal(authorizedCall[kind](stage.escrow, again), relayer)).toBe("NonceAlreadyUsed");
		const next = await authorized(kind, { channelId, cumulativeAmount: 90n, nonce: 4n, deadline: FOREVER });
		await stage.send(authorizedCall[kind](stage.escrow, next), relayer);
		expect(await stage.balance(payee)).toBe(90n);
	});

	it.each(KINDS)("are refused one second after their deadline: %s", async (kind) => {
		const channelId = await stage.open(payee);
		const { timestamp } = await client.getBlock();
		const deadline = timestamp + 100n;
		const signed = await authorized(kind, { channelId, cumulativeAmount: 60n, nonce: 0n, deadline });
		await rpc(client, "evm_setNextBlockTimestamp", [Number(deadline) + 1]);
		await rpc(client, "evm_mine");
		expect(await stage.refusal(authorizedCall[kind](stage.escrow, signed), relayer)).toBe("AuthorizationExpired");
		expect(await stage.balance(payee)).toBe(0n);
	});

	it.each(KINDS)("are refused without the payee's own signature for this very call: %s", async (kind) => {
		const channelId = await stage.open(payee);
		const terms = { channelId, cumulativeAmount: 60n, nonce: 0n, deadline: FOREVER };
		const other = kind === "settle" ? "close" : "settle";
		for (const signed of [
			await authorized(kind, terms, relayer),
			await authorized(other, terms),
			{ ...(await authorized(kind, terms)), nonce: 1n },
			{ ...(await authorized(kind, terms)), deadline: FOREVER + 1n },
			{ ...(await authorized(kind, terms)), voucherSignature: (await authorized(kind, terms)).payeeSignature },
		]) {
			expect(await stage.refusal(authorizedCall[kind](stage.escrow, signed), relayer)).toBe("InvalidSignature");
		}
	});
});

describe("a batch's rows", () => {
	const vouchers = fc.record({ key: privateKey, channelId: bytes32, cumulativeAmount: uint(128) });

	it("are packed so that ERC-2098 gives back the 65 bytes, for any signature of any account", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(vouchers, { minLength: 1, maxLength: 4 }), async (given) => {
				const accounts = given.map(({ key }) => privateKeyToAccount(key));
				const rows = await Promise.all(
					given.map(async ({ key, channelId, cumulativeAmount }) => {
						const voucher = { channelId, cumulativeAmount };
						return { ...voucher, signature: await signVoucher(privateKeyToAccount(key), domain, voucher) };
					}),
				);
				for (const call of [settleManyCall(stage.escrow, rows), closeManyCall(stage.escrow, rows)]) {
					const packed = unpack(call);
					expect(packed.map(({ channelId, cumulativeAmount }) => ({ channelId, cumulativeAmount }))).toEqual(
						given.map(({ channelId, cumulativeAmount }) => ({ channelId, cumulativeAmount })),
					);
					for (const [index, { channelId, cumulativeAmount, r, vs }] of packed.entries()) {
						expect(unpackSignature(r, vs)).toBe(rows[index]?.signature);
						const hash = bytesToHex(voucherDigest(domain, { channelId, cumulativeAmount }));
						const signer = await recoverAddress({ hash, signature: unpackSignature(r, vs) });
						expect(signer).toBe(accounts[index]?.address);
					}
				}
			}),
			{ numRuns: 25 },
		);
	});

	it("are refused for every signature that is not 65 bytes, v 27 or 28, with a low s, and the row is named", async () => {
		const channelId: Hex = `0x${"ab".repeat(32)}`;
		const good = await stage.voucher(channelId, 5n);
		const { signature } = good;
		const v = Number.parseInt(signature.slice(130), 16);
		const s = BigInt(`0x${signature.slice(66, 130)}`);
		for (const bad of [
			`0x${signature.slice(2, 130)}`,
			`${signature}00`,
			`0x${"zz".repeat(65)}`,
			assemble(signature, { v: v - 27 }),
			assemble(signature, { v: 29 }),
			assemble(signature, { s: ORDER - s, v: 55 - v }),
			assemble(signature, { s: 0n }),
			assemble(signature, { r: ORDER }),
		] as readonly Hex[]) {
			for (const many of [settleManyCall, closeManyCall]) {
				const refused = () => many(stage.escrow, [good, { ...good, signature: bad }]);
				expect(refused).toThrow(BatchSignatureError);
				expect(refused).toThrow(expect.objectContaining({ code: "BATCH_SIGNATURE", row: 1, channelId }));
				expect(refused).not.toThrow(bad.slice(2, 40));
			}
		}
	});

	it("may have an empty signature for a close only, and then have zeros", () => {
		const unsigned: SettlementRow = { channelId: `0x${"cd".repeat(32)}`, cumulativeAmount: 0n, signature: "0x" };
		expect(() => settleManyCall(stage.escrow, [unsigned])).toThrow(BatchSignatureError);
		const zeros: Hex = `0x${"0".repeat(64)}`;
		expect(unpack(closeManyCall(stage.escrow, [unsigned]))).toEqual([
			{ channelId: unsigned.channelId, cumulativeAmount: 0n, r: zeros, vs: zeros },
		]);
	});
});

describe("a payee's authorization", () => {
	it.each(KINDS)("is recovered to the payee by the digest that is signed: %s", async (kind) => {
		const terms = { channelId: `0x${"01".repeat(32)}`, cumulativeAmount: 1n, nonce: 0n, deadline: FOREVER } as const;
		const { payeeSignature } = await authorized(kind, terms);
		const hash = bytesToHex(payeeAuthorizationDigest(kind, domain, terms));
		expect(await recoverAddress({ hash, signature: payeeSignature })).toBe(payee.address);
	});
});

function unpack({ data }: Call) {
	const { functionName, args } = decodeFunctionData({ abi: paymentChannelEscrowAbi, data });
	if (functionName !== "settleMany" && functionName !== "closeMany") throw new Error(`${functionName} has no rows`);
	return args[0];
}

/** ERC-2098 by its text: the highest bit of `vs` is the parity, the other 255 are `s`. */
function unpackSignature(r: Hex, vs: Hex): Hex {
	const word = BigInt(vs);
	const s = word & (2n ** 255n - 1n);
	const v = 27n + (word >> 255n);
	return `${r}${s.toString(16).padStart(64, "0")}${v.toString(16)}`;
}
