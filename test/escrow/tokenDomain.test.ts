import { type Address, createPublicClient, custom, type Hex, http, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findTokenDomain, readTokenDomain, TokenUnusableError } from "../../src/escrow/reads.ts";
import { domainSeparator } from "../../src/voucher/index.ts";
import { createStage, rpc, type Stage } from "./support.ts";

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage?.chain.stop());

async function contractOf(code: (address: Address) => Hex): Promise<Address> {
	const address = privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as Address;
	await rpc(stage.chain.client, "anvil_setCode", [address, code(address)]);
	return address;
}

/** A token with `DOMAIN_SEPARATOR()` for these strings, and nothing else: it reverts all other questions. */
function nameless(name: string, version: string): Promise<Address> {
	return contractOf((verifyingContract) => {
		const separator = toHex(domainSeparator({ name, version, chainId: stage.chain.chainId, verifyingContract }));
		// PUSH0 CALLDATALOAD PUSH1 e0 SHR PUSH4 3644e515 EQ PUSH1 11 JUMPI PUSH0 PUSH0 REVERT JUMPDEST, then the answer.
		return `0x5f3560e01c633644e51514601157${"5f5ffd"}5b7f${separator.slice(2)}5f5260205ff3`;
	});
}

const NAMES = { name: "Real Name", version: "1" };

describe("the EIP-712 domain of a token", () => {
	it("is read from the token and checked, or taken from the configuration and checked", async () => {
		const { token, chain } = stage;
		const domain = { name: "USD Coin", version: "2", chainId: chain.chainId, verifyingContract: token };
		expect(await readTokenDomain(chain.client, token, chain.chainId)).toEqual(domain);
		expect(await findTokenDomain(chain.client, token, chain.chainId)).toEqual(domain);
		const configured = { name: "USD Coin", version: "2" };
		expect(await readTokenDomain(chain.client, token, chain.chainId, configured)).toEqual(domain);
	});

	it("can be configured for a token that does not say its version", async () => {
		const { chain } = stage;
		const token = await nameless("Real Name", "1");
		expect(await readTokenDomain(chain.client, token, chain.chainId, NAMES)).toMatchObject(NAMES);
		expect(await findTokenDomain(chain.client, token, chain.chainId, NAMES)).toMatchObject(NAMES);
		for (const read of [readTokenDomain, findTokenDomain]) {
			const refusal = read(chain.client, token, chain.chainId);
			await expect(refusal).rejects.toThrow(/does not say its name\(\) and version\(\); configure/);
		}
	});

	it.each([
		["name", { name: "Other Name", version: "1" }],
		["version", { name: "Real Name", version: "2" }],
	])("is refused when the configured %s is not what the token signs with", async (_, configured) => {
		const { chain } = stage;
		const token = await nameless("Real Name", "1");
		for (const read of [readTokenDomain, findTokenDomain]) {
			const refusal = read(chain.client, token, chain.chainId, configured);
			await expect(refusal).rejects.toBeInstanceOf(TokenUnusableError);
			await expect(read(chain.client, token, chain.chainId, configured)).rejects.toThrow(/configured name .* fix them/);
		}
	});

	it("is refused on another chain than the token's", async () => {
		const { token, chain } = stage;
		await expect(findTokenDomain(chain.client, token, 8_453)).rejects.toBeInstanceOf(TokenUnusableError);
	});

	it.each<[string, Hex]>([
		["reverts", "0x5f5ffd"],
		["answers nothing", "0x00"],
		["fails as old contracts do", "0xfe"],
	])("is not there for a plain ERC-20 token, which %s when asked for it", async (_, code) => {
		const { chain } = stage;
		const token = await contractOf(() => code);
		expect(await findTokenDomain(chain.client, token, chain.chainId)).toBeUndefined();
		expect(await findTokenDomain(chain.client, token, chain.chainId, NAMES)).toBeUndefined();
		await expect(readTokenDomain(chain.client, token, chain.chainId)).rejects.toThrow(/has no DOMAIN_SEPARATOR\(\)/);
	});

	it("is not guessed when the node could not be asked", async () => {
		const { token, chain } = stage;
		const dead = createPublicClient({ transport: http("http://127.0.0.1:9", { retryCount: 0 }) });
		const request = async () => {
			throw Object.assign(new Error("too busy"), { code: -32_005 });
		};
		const busy = createPublicClient({ transport: custom({ request }, { retryCount: 0 }) });
		for (const client of [dead, busy]) {
			for (const read of [readTokenDomain, findTokenDomain]) {
				const refusal = read(client, token, chain.chainId).then(
					() => undefined,
					(error: unknown) => error,
				);
				expect(await refusal).toBeInstanceOf(Error);
				expect(await refusal).not.toBeInstanceOf(TokenUnusableError);
			}
		}
	});
});
