import fc from "fast-check";
import type { Address, Hex } from "viem";
import { expect, test } from "vitest";
import { PayerChannel } from "../../src/client/channel.ts";
import type { PendingTopUp } from "../../src/client/pending.ts";
import { ChannelStateError, parseState, topUpFrom } from "../../src/client/state.ts";
import { computeChannelId, ZERO_ADDRESS } from "../../src/voucher/index.ts";

const hex = (bytes: number) =>
	fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value): Hex => `0x${Buffer.from(value).toString("hex")}`);
const address = hex(20) as fc.Arbitrary<Address>;
const amount = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });

const topUps: fc.Arbitrary<PendingTopUp | undefined> = fc.oneof(
	fc.constant(undefined),
	fc.record({ type: fc.constant("authorization" as const), amount, salt: hex(32), until: fc.nat() }),
	fc.record({
		type: fc.constant("permit2" as const),
		amount,
		permit2: address,
		nonce: fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }),
		until: fc.nat(),
	}),
	fc.record({
		type: fc.constant("hash" as const),
		amount,
		sent: fc.record({ hash: hex(32), nonce: fc.nat() }),
		mined: fc.boolean(),
	}),
);

const channels = fc
	.record({
		payer: address,
		payee: address,
		token: address,
		escrow: address,
		chainId: fc.integer({ min: 1, max: 2 ** 32 }),
		salt: hex(32),
		amounts: fc.tuple(amount, amount, amount).map((list) => list.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))),
		uncertain: amount,
		topUp: topUps,
		method: fc.constantFrom("GET", "POST"),
	})
	.map(({ amounts, uncertain, topUp, method, ...rest }) => {
		const parameters = { ...rest, authorizedSigner: ZERO_ADDRESS };
		const [consumed = 0n, signed = 0n, deposit = 0n] = amounts;
		return new PayerChannel({
			channelId: computeChannelId(parameters),
			parameters,
			...{ consumed, signed, deposit, uncertain },
			resource: { url: "https://api.example.com/quote?a=1", method },
			...(topUp !== undefined && { topUp }),
		});
	});

test("a state that went through JSON makes the same channel, with the same top-up on its way", () => {
	fc.assert(
		fc.property(channels, (channel) => {
			const carried: unknown = JSON.parse(JSON.stringify(channel.state()));
			const state = parseState(carried, channel.parameters.payer, [ZERO_ADDRESS]);
			expect(state).toEqual(channel.state());
			expect(topUpFrom(state)).toEqual(channel.topUp);
		}),
		{ numRuns: 1_000 },
	);
});

test("whatever is given for a state is taken or refused with a typed error", () => {
	const members = fc.dictionary(fc.string(), fc.anything());
	const broken = channels.chain((channel) =>
		fc.record({ change: members, drop: fc.constantFrom(...Object.keys(channel.state())) }).map(({ change, drop }) => {
			const { [drop as "channelId"]: _, ...rest } = channel.state();
			return { ...rest, ...change };
		}),
	);
	fc.assert(
		fc.property(fc.oneof(fc.anything(), members, broken), (state) => {
			try {
				parseState(state, ZERO_ADDRESS, [ZERO_ADDRESS]);
			} catch (error) {
				expect(error).toBeInstanceOf(ChannelStateError);
			}
		}),
		{ numRuns: 2_000 },
	);
});

test.each(["http://api.example.com/quote", "ftp://127.0.0.1/quote", "file:///quote"])(
	"a state whose channel was opened at %s is refused: its close would be readable on the way",
	(url) => {
		const [channel] = fc.sample(channels, 1);
		if (channel === undefined) throw new TypeError("no channel");
		const state = { ...channel.state(), resource: { url, method: "GET" } };
		const { payer } = channel.parameters;
		expect(() => parseState(state, payer, [ZERO_ADDRESS])).toThrow(/not https/);
		const loopback = { ...state, resource: { url: "http://127.0.0.1:8080/quote", method: "GET" } };
		expect(parseState(loopback, payer, [ZERO_ADDRESS])).toEqual(loopback);
	},
);
