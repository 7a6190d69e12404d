import { type Address, createPublicClient, custom, encodeDeployData, type Hex, hexToBytes, http } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { hasCode, isContractSignatureValid } from "../../src/escrow/reads.ts";
import { credulousWalletBytecode, erc1271WalletBytecode } from "../model/generated/doubles.ts";
import { rpc, sendAs } from "./support.ts";

const DIGEST = hexToBytes(`0x${"d1".repeat(32)}`);
const OTHER_DIGEST = hexToBytes(`0x${"d2".repeat(32)}`);
const owner = privateKeyToAccount(generatePrivateKey());

let chain: LocalChain;
/** Takes its owner's signatures with one byte in front. */
let wallet: Address;
let signature: Hex;

beforeAll(async () => {
	chain = await startChain();
	const abi = [{ type: "constructor", inputs: [{ name: "owner", type: "address" }] }] as const;
	wallet = await deploy(encodeDeployData({ abi, bytecode: erc1271WalletBytecode, args: [owner.address] }));
	signature = `0xaa${(await owner.sign({ hash: `0x${"d1".repeat(32)}` })).slice(2)}`;
});
afterAll(() => chain?.stop());

async function deploy(data: Hex): Promise<Address> {
	const { contractAddress } = await sendAs(chain, chain.account(0), { to: null, data });
	if (!contractAddress) throw new Error("nothing was deployed");
	return contractAddress;
}

async function contractOf(code: Hex): Promise<Address> {
	const { address } = privateKeyToAccount(generatePrivateKey());
	await rpc(chain.client, "anvil_setCode", [address, code]);
	return address;
}

const isValid = (signer: Address, digest = DIGEST, given = signature) =>
	isContractSignatureValid(chain.client, signer, digest, given);

describe("isContractSignatureValid (ERC-1271)", () => {
	it("asks the account, which takes its owner's signature and no other", async () => {
		expect(await isValid(wallet)).toBe(true);
		expect(await isValid(wallet, OTHER_DIGEST)).toBe(false);
		expect(await isValid(wallet, DIGEST, "0x")).toBe(false);
		expect(await isValid(wallet, DIGEST, `0xaa${"11".repeat(65)}`)).toBe(false);
	});

	it("takes the word of an account that agrees to anything", async () => {
		expect(await isValid(await deploy(credulousWalletBytecode), OTHER_DIGEST, "0x")).toBe(true);
	});

	it("is false where there is no code, even for the account's own key", async () => {
		const own = await owner.sign({ hash: `0x${"d1".repeat(32)}` });
		expect(await hasCode(chain.client, owner.address)).toBe(false);
		expect(await hasCode(chain.client, wallet)).toBe(true);
		expect(await isValid(owner.address, DIGEST, own)).toBe(false);
	});

	it.each<[string, Hex]>([
		["reverts", "0x5f5ffd"],
		["stops without an answer", "0x00"],
		["runs until the gas is used up", "0x5b5f56"],
		["comes upon what is no opcode", "0xfe"],
		["jumps to nowhere", "0x60ff56"],
		["takes from an empty stack", "0x50"],
		["tries to change the state", "0x60015f5560206000f3"],
		["answers zero", "0x60205ff3"],
		["answers the selector in too few bytes", "0x631626ba7e60e01b5f5260045ff3"],
		["answers the selector as a number, not as bytes4", "0x631626ba7e5f5260205ff3"],
	])("is false for an account that %s", async (_, code) => {
		expect(await isValid(await contractOf(code))).toBe(false);
	});

	it("is true for the right answer in one word, whatever stands behind it", async () => {
		// PUSH4 selector, PUSH1 224, SHL, PUSH0, MSTORE, then RETURN of 32 or 64 bytes.
		expect(await isValid(await contractOf("0x631626ba7e60e01b5f5260205ff3"))).toBe(true);
		expect(await isValid(await contractOf("0x631626ba7e60e01b5f5260405ff3"))).toBe(true);
	});

	it("bounds the gas that the node spends on a stranger's code", async () => {
		const gas: unknown[] = [];
		const request = ({ method, params }: { method: string; params?: unknown }) => {
			if (method === "eth_call") gas.push((params as [{ gas?: Hex }])[0].gas);
			return chain.client.request({ method, params } as never);
		};
		await isContractSignatureValid(createPublicClient({ transport: custom({ request }) }), wallet, DIGEST, signature);
		expect(gas).toEqual(["0xf4240"]);
	});

	it("rejects when the node could not be asked: that says nothing about the signature", async () => {
		const dead = createPublicClient({ transport: http("http://127.0.0.1:9", { retryCount: 0 }) });
		await expect(isContractSignatureValid(dead, wallet, DIGEST, signature)).rejects.toThrow();
		for (const code of [-32_603, -32_005, -32_000]) {
			const request = async () => {
				throw Object.assign(new Error("too busy"), { code });
			};
			const busy = createPublicClient({ transport: custom({ request }, { retryCount: 0 }) });
			await expect(isContractSignatureValid(busy, wallet, DIGEST, signature)).rejects.toThrow();
		}
	});
});
