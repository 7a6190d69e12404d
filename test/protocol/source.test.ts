import fc from "fast-check";
import { expect, test } from "vitest";
import { formatSource, parseSource } from "../../src/protocol/index.ts";
import { addresses, payer } from "./support.ts";

test("a source survives a round trip", () => {
	fc.assert(
		fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), addresses, (chainId, address) => {
			expect(parseSource(formatSource(chainId, address))).toEqual({ chainId, address });
		}),
	);
});

test("the address is read in any case", () => {
	expect(parseSource(`did:pkh:eip155:196:0x${"Aa".repeat(20)}`)).toEqual({ chainId: 196, address: payer });
});

test.each([
	"",
	`did:key:eip155:196:${payer}`,
	`did:pkh:solana:196:${payer}`,
	`did:pkh:eip155:0:${payer}`,
	`did:pkh:eip155:01:${payer}`,
	`did:pkh:eip155:9999999999999999:${payer}`,
	`did:pkh:eip155:196:${payer}0`,
	`did:pkh:eip155:196:${payer.slice(2)}`,
	`did:pkh:eip155:196:${payer}\n`,
	`x did:pkh:eip155:196:${payer}`,
])("%j is no source", (text) => {
	expect(parseSource(text)).toBeUndefined();
});
