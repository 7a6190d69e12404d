import { network } from "hardhat";
import { createWalletClient, http } from "viem";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
	deployEscrow,
	FACTORY_ADDRESS,
	FACTORY_DEPLOYER,
	FACTORY_RUNTIME,
	FACTORY_TRANSACTION,
	hasFactory,
	installFactory,
	planDeployment,
	preflight,
} from "../../deploy/index.ts";
import { mined } from "../support/mined.ts";
import { clientOf, fundedAccount, QUICK, rpc, startDeployChain, transactionsOf, walletOf } from "./support.ts";

/** Hardhat's chain has no factory. Its accounts are the node's own: a wallet without a key here. */
let server: Awaited<ReturnType<typeof network.createServer>>;
let url: string;
beforeEach(async () => {
	server = await network.createServer(undefined, "127.0.0.1", 0);
	const { address, port } = await server.listen();
	url = `http://${address}:${port}`;
});
afterEach(() => server.close());

const plan = planDeployment();

async function walletOfNode() {
	const [account] = (await rpc(clientOf(url), "eth_accounts")) as [`0x${string}`];
	return createWalletClient({ account, transport: http(url) });
}

describe("a chain without the CREATE2 factory", () => {
	it("is refused, and told what to do", async () => {
		const client = clientOf(url);
		const refusal = {
			code: "FACTORY_UNUSABLE",
			reason: "missing",
			message: expect.stringContaining("--deploy-factory"),
		};
		await expect(preflight({ client, plan, allowMissingPermit2: true })).rejects.toMatchObject(refusal);
		const wallet = await walletOfNode();
		const deploying = deployEscrow({ client, wallet, plan, allowMissingPermit2: true, ...QUICK });
		await expect(deploying).rejects.toMatchObject(refusal);
		expect(await transactionsOf(client)).toBe(0);
	});

	it("gets it by its presigned transaction, and then the escrow, for no more than was estimated", async () => {
		const client = clientOf(url);
		const wallet = await walletOfNode();
		const options = { client, wallet, plan, installFactory: true, allowMissingPermit2: true, ...QUICK };
		const { cost, factoryMissing } = await preflight(options);
		if (cost === undefined) expect.fail("there is something to deploy");
		expect(factoryMissing).toBe(true);
		const before = await client.getBalance(wallet.account);
		expect(await deployEscrow(options)).toMatchObject({ outcome: "deployed", escrow: plan.escrow });
		expect(await client.getCode({ address: FACTORY_ADDRESS })).toBe(FACTORY_RUNTIME);
		const spent = before - (await client.getBalance(wallet.account));
		expect(spent).toBeLessThanOrEqual(cost.max);
		expect(cost.factory).toBeLessThan(cost.max);
		expect(await deployEscrow(options)).toMatchObject({ outcome: "already-there" });
	});

	it("gives the factory's deployer only what it lacks, and installs nothing twice", async () => {
		const client = clientOf(url);
		const wallet = await walletOfNode();
		const gift = 10n ** 16n - 5n;
		await mined(client, await wallet.sendTransaction({ chain: null, to: FACTORY_DEPLOYER, value: gift }));
		await installFactory({ client, wallet, ...QUICK });
		expect(await hasFactory(client)).toBe(true);
		const sent = await transactionsOf(client);
		await installFactory({ client, wallet, ...QUICK });
		expect(await transactionsOf(client)).toBe(sent);
	});

	it("waits for the presigned transaction where it is on its way already", async () => {
		const chain = await startDeployChain(41_040, { permit2: false, args: ["--disable-default-create2-deployer"] });
		try {
			const { client } = chain;
			const { account } = await fundedAccount(client);
			const options = { client, wallet: walletOf(chain.url, account), ...QUICK };
			await rpc(client, "anvil_setBalance", [FACTORY_DEPLOYER, "0x2386f26fc10000"]);
			await rpc(client, "evm_setAutomine", [false]);
			await client.sendRawTransaction({ serializedTransaction: FACTORY_TRANSACTION });
			const impatient = installFactory({ ...options, timeoutMs: 1 });
			await expect(impatient).rejects.toMatchObject({ code: "DEPLOYMENT_PENDING" });
			const patient = installFactory(options);
			await rpc(client, "evm_mine");
			await patient;
			expect(await hasFactory(client)).toBe(true);
		} finally {
			await chain.stop();
		}
	});

	it("is refused for good where the presigned transaction is used up or pays too little", async () => {
		const client = clientOf(url);
		const options = { client, plan, installFactory: true, allowMissingPermit2: true };
		await rpc(client, "hardhat_setNextBlockBaseFeePerGas", ["0x174876e801"]);
		await rpc(client, "hardhat_mine", ["0x1"]);
		await expect(preflight(options)).rejects.toMatchObject({ code: "FACTORY_UNUSABLE", reason: "not-installed" });
		await rpc(client, "hardhat_setNextBlockBaseFeePerGas", ["0x3b9aca00"]);
		await rpc(client, "hardhat_mine", ["0x1"]);
		await rpc(client, "hardhat_setNonce", [FACTORY_DEPLOYER, "0x1"]);
		await expect(preflight(options)).rejects.toThrow(/was sent and failed/);
	});
});
