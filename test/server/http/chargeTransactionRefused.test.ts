import { encodeFunctionData, type Hex, parseAbi, parseTransaction, serializeTransaction, toHex, toRlp } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { approveCall, transferCall } from "../../../src/escrow/calls.ts";
import { chargeByTransaction, type TransactionOptions } from "../../support/chargeDrafts.ts";
import { type Free, sendsNothing } from "../../support/chargeStage.ts";
import { expectPaid, expectProblem, expectRefusal } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type Draft, type PaidServer, type Payer, PRICE, withPayload } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	server = await world.serve();
});

const stranger = privateKeyToAccount(generatePrivateKey());

async function credential(options: TransactionOptions = {}): Promise<Draft> {
	return chargeByTransaction(world, payer, await server.challenge("/charge"), options);
}

/** Nothing moved, nothing was broadcast, no handler ran. */
const free: Free = (action) => sendsNothing({ world, server, payer }, action);

describe("transaction, refused", () => {
	const bytes = async (change: (raw: Hex) => Hex) => {
		const draft = await credential();
		return withPayload(draft, { signature: change(draft.payload.signature as Hex) });
	};
	const malformed: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["no RLP", () => bytes(() => `0x02${"ff".repeat(20)}`)],
		["one byte", () => bytes(() => "0x02")],
		["nothing", () => bytes(() => "0x")],
		["no hex", () => bytes(() => "0xzz")],
		["an unknown type", () => bytes((raw) => `0x7f${raw.slice(4)}`)],
		["bytes cut off", () => bytes((raw) => raw.slice(0, -2) as Hex)],
		["an empty list", () => bytes(() => "0x02c0")],
		["lists in lists", () => bytes(() => `0x02${"c1".repeat(2_000)}c0`)],
		["more bytes than any transfer has", () => bytes((raw) => `${raw}${"00".repeat(3_000)}`)],
		["a number", async () => withPayload(await credential(), { signature: 7 })],
		["no member of that name", async () => withPayload(await credential(), { signature: undefined })],
	];
	it.each(malformed)("a transaction that is refused is not broadcast: %s", async (_title, make) => {
		const draft = await make();
		expectRefusal(await free(() => server.pay("/charge", draft)), "malformed-credential");
	});

	async function ofType(type: "legacy" | "eip2930"): Promise<Draft> {
		const { chainId } = world.chain;
		const call = transferCall(world.token, server.payee, PRICE);
		const gas = { gas: 100_000n, gasPrice: 10n ** 10n };
		const signature = await payer.account.signTransaction({ type, chainId, nonce: 0, ...call, ...gas } as never);
		return { challenge: await server.challenge("/charge"), payload: { type: "transaction", signature } };
	}

	const other = stranger.address;
	const transfer = (to: Hex, value: bigint) => transferCall(world.token, to, value).data;
	const tokenAbi = parseAbi(["function transferFrom(address from, address to, uint256 value)"]);
	const cases: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["a legacy transaction", () => ofType("legacy")],
		["an EIP-2930 transaction", () => ofType("eip2930")],
		["another chain", () => credential({ chainId: 1 })],
		["another contract", () => credential({ to: world.escrow })],
		["the creation of a contract", () => credential({ to: null })],
		["another function", () => credential(approveCall(world.token, server.payee, PRICE))],
		[
			"transferFrom",
			() => {
				const args = [payer.address, server.payee, PRICE] as const;
				return credential({ data: encodeFunctionData({ abi: tokenAbi, functionName: "transferFrom", args }) });
			},
		],
		["no calldata", () => credential({ data: "0x" })],
		["calldata longer", () => credential({ data: `${transfer(server.payee, PRICE)}00` })],
		["calldata shorter", () => credential({ data: transfer(server.payee, PRICE).slice(0, -2) as Hex })],
		[
			"dirt above the recipient",
			() => credential({ data: transfer(server.payee, PRICE).replace(/^(0x.{8})00/, "$101") as Hex }),
		],
		["another recipient", () => credential({ data: transfer(other, PRICE) })],
		["a lower amount", () => credential({ data: transfer(server.payee, PRICE - 1n) })],
		["a higher amount", () => credential({ data: transfer(server.payee, PRICE + 1n) })],
		["value of ether", () => credential({ value: 1n })],
		["a signer who is not the source", () => credential({ source: `did:pkh:eip155:31337:${other}` })],
		["a source on another chain", () => credential({ source: `did:pkh:eip155:1:${payer.address}` })],
		[
			"no signature",
			() =>
				bytes((raw) => {
					const {
						r: _,
						s: __,
						v: ___,
						yParity: ____,
						...unsigned
					} = parseTransaction(raw) as never as Record<string, unknown>;
					return serializeTransaction(unsigned as never);
				}),
		],
		[
			"a signature of zeros",
			() => bytes((raw) => resigned(raw, { r: toHex(0n, { size: 32 }), s: toHex(0n, { size: 32 }) })),
		],
		["a high s", () => bytes((raw) => resigned(raw, "flipped"))],
		["numbers with leading zeros", () => bytes(withLeadingZero)],
		[
			"fields of another kind",
			() => bytes(() => `0x02${toRlp([["0x01"], "0x", "0x", "0x", "0x", "0x", "0x", "0x", []]).slice(2)}`),
		],
		["bytes behind its end", () => bytes((raw) => `${raw}00`)],
	];
	it.each(cases)("a transaction that is refused is not broadcast: %s", async (_title, make) => {
		const draft = await make();
		const answer = await free(() => server.pay("/charge", draft));
		expect(answer.status).toBe(402);
		expectProblem(answer);
		expect(answer.problem?.type).toMatch(/verification-failed|malformed-credential/);
	});

	it("a transaction with any one byte changed is refused, and is never a fault of ours", async () => {
		const draft = await credential();
		const raw = draft.payload.signature as Hex;
		const all = Array.from({ length: (raw.length - 2) / 2 }, (_, at) => {
			const digits = 2 + 2 * at;
			const changed = (Number.parseInt(raw.slice(digits, digits + 2), 16) ^ 0x11).toString(16).padStart(2, "0");
			return withPayload(draft, { signature: `${raw.slice(0, digits)}${changed}${raw.slice(digits + 2)}` });
		});
		const answers = await free(() => Promise.all(all.map((one) => server.pay("/charge", one))));
		for (const [at, { status, problem }] of answers.entries()) {
			expect(`${at}: ${status} ${problem?.type}`).toMatch(/: 402 .*(verification-failed|malformed-credential)$/);
		}
		expectPaid(await server.pay("/charge", draft));
	});

	const foreseen: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["a nonce that leaves a gap", () => credential({ nonce: 1 })],
		["a gas limit above a block's", () => credential({ gas: 10n ** 9n })],
		["less gas than any transaction takes", () => credential({ gas: 20_000n })],
		["less gas than the transfer takes", () => credential({ gas: 23_000n })],
		["fees below the base fee", () => credential({ maxFeePerGas: 1n, maxPriorityFeePerGas: 0n })],
		["fees that the sender can't pay", () => credential({ maxFeePerGas: 10n ** 16n })],
		[
			"a signer without funds (simulation)",
			async () => {
				payer = await world.payer({ funds: PRICE - 1n, gas: true });
				return credential();
			},
		],
		[
			"a signer without gas",
			async () => {
				payer = await world.payer();
				return credential();
			},
		],
		[
			"a nonce already used",
			async () => {
				const draft = await credential();
				await payer.sendBlind(approveCall(world.token, server.payee, 1n));
				return draft;
			},
		],
	];
	it.each(foreseen)("a transaction that is refused is not broadcast: %s", async (_title, make) => {
		const draft = await make();
		const answer = await free(() => server.pay("/charge", draft));
		expectRefusal(answer, "verification-failed");
		expect(answer.problem?.detail).toMatch(/\w{3,}/);
	});

	it("for an expired challenge", async () => {
		const draft = await credential();
		server.clock.advance(301_000);
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
	});
});

/** With another signature that recovers to the same account, or with one of the parts replaced. */
function resigned(raw: Hex, change: "flipped" | Readonly<{ r: Hex; s: Hex }>): Hex {
	const { r = "0x", s = "0x", yParity = 0, v: _, ...rest } = parseTransaction(raw as `0x02${string}`);
	const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
	const flipped = { r, s: toHex(order - BigInt(s), { size: 32 }), yParity: 1 - yParity };
	return serializeTransaction(rest as never, change === "flipped" ? flipped : { ...change, yParity });
}

/** The same transaction, its nonce written as one zero byte: nodes would hash it otherwise, or refuse it. */
function withLeadingZero(raw: Hex): Hex {
	const tx = parseTransaction(raw as `0x02${string}`);
	const number = (value: bigint | number | undefined) =>
		value === undefined || BigInt(value) === 0n ? "0x" : toHex(value);
	return `0x02${toRlp([
		number(tx.chainId),
		"0x00",
		number(tx.maxPriorityFeePerGas),
		number(tx.maxFeePerGas),
		number(tx.gas),
		tx.to ?? "0x",
		"0x",
		tx.data ?? "0x",
		[],
		number(tx.yParity),
		tx.r ?? "0x",
		tx.s ?? "0x",
	]).slice(2)}`;
}
