import { afterEach, describe, expect, it } from "vitest";
import { assertOpcodes, deployEscrow, planDeployment } from "../../deploy/index.ts";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { clientOf, fundedAccount, QUICK, startDeployChain, transactionsOf, walletOf } from "./support.ts";

let chain: LocalChain | undefined;
afterEach(() => chain?.stop());

async function startFork(name: string): Promise<LocalChain> {
	chain = await startDeployChain(41_010, { permit2: false, args: ["--hardfork", name] });
	return chain;
}

describe("a chain is asked for the instructions that the escrow needs", () => {
	it.each([
		["paris", ["PUSH0", "MCOPY", "TSTORE", "TLOAD"]],
		["shanghai", ["MCOPY", "TSTORE", "TLOAD"]],
	])("one of %s is refused, and told which it lacks", async (fork, opcodes) => {
		const { client, url } = await startFork(fork);
		await expect(assertOpcodes(client, 41_010)).rejects.toMatchObject({ code: "OPCODES_MISSING", opcodes });
		const { account } = await fundedAccount(client);
		const wallet = walletOf(url, account);
		const deploying = deployEscrow({ client, wallet, plan: planDeployment(), allowMissingPermit2: true, ...QUICK });
		await expect(deploying).rejects.toThrow(`chain 41010 does not have ${opcodes.join(", ")},`);
		expect(await transactionsOf(client)).toBe(0);
	});

	it.each(["cancun", "prague", "osaka"])("one of %s has them", async (fork) => {
		const { client } = await startFork(fork);
		await expect(assertOpcodes(client, 41_010)).resolves.toBeUndefined();
	});

	it("a node that runs no creation code in a call is refused for that", async () => {
		const { url } = await startFork("cancun");
		const proxy = await RpcProxy.start(url);
		try {
			proxy.lies = (method) => (method === "eth_call" ? { result: "0x" } : undefined);
			const asked = assertOpcodes(clientOf(proxy.url), 41_010);
			await expect(asked).rejects.toMatchObject({ code: "OPCODES_MISSING", opcodes: [] });
		} finally {
			await proxy.stop();
		}
	});

	it("a node that can't be asked is no reason to call the chain too old", async () => {
		const { url } = await startFork("cancun");
		const proxy = await RpcProxy.start(url);
		try {
			proxy.down();
			await expect(assertOpcodes(clientOf(proxy.url), 41_010)).rejects.not.toHaveProperty("opcodes");
		} finally {
			await proxy.stop();
		}
	});
});
