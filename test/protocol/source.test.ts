import { expect, test } from "vitest";
import { parseSource } from "../../src/protocol/index.ts";
import { payer } from "./support.ts";

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
