import type { Address } from "viem";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { deployEscrow, planDeployment, preflight, verifyDeployment } from "../../deploy/index.ts";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { mined } from "../support/mined.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { clientOf, fundedAccount, QUICK, rpc, startDeployChain, transactionsOf, walletOf } from "./support.ts";

const plan = planDeployment();
let first: LocalChain;
let second: LocalChain;

beforeAll(async () => {
	[first, second] = await Promise.all([startDeployChain(41_001), startDeployChain(41_002)]);
});
afterAll(async () => {
	await Promise.all([first, second].map((chain) => chain?.stop()));
});

/** Each test begins with the chains as they started. */
const snapshots = new Map<LocalChain, unknown>();
beforeEach(async () => {
	for (const chain of [first, second]) {
		if (snapshots.has(chain)) await rpc(chain.client, "evm_revert", [snapshots.get(chain)]);
		snapshots.set(chain, await rpc(chain.client, "evm_snapshot"));
	}
});

async function deployTo(chain: LocalChain, options: Partial<Parameters<typeof deployEscrow>[0]> = {}) {
	const { account } = await fundedAccount(chain.client);
	return deployEscrow({
		client: clientOf(chain.url),
		wallet: walletOf(chain.url, account),
		plan,
		...QUICK,
		...options,
	});
}

describe("a deployment", () => {
	it("has the same address on two chains, for different deployers with different nonces", async () => {
		const { account } = await fundedAccount(second.client);
		const wallet = walletOf(second.url, account);
		for (let nonce = 0; nonce < 3; nonce++) {
			const hash = await wallet.sendTransaction({ chain: null, to: account.address });
			await mined(second.client, hash);
		}
		const here = await deployTo(first);
		const there = await deployTo(second, { wallet });
		expect(here).toMatchObject({ outcome: "deployed", chainId: 41_001, escrow: plan.escrow, permit2Missing: false });
		expect(there).toMatchObject({ outcome: "deployed", chainId: 41_002, escrow: plan.escrow });
		expect(here.transactionHash).not.toBe(there.transactionHash);
		expect(await second.client.getTransactionCount(account)).toBe(4);
		const receipt = await first.client.getTransactionReceipt({ hash: here.transactionHash ?? "0x" });
		expect(here).toMatchObject({
			blockNumber: Number(receipt.blockNumber),
			gasUsed: receipt.gasUsed,
			fee: receipt.gasUsed * receipt.effectiveGasPrice,
		});
		await expect(verifyDeployment(first.client, plan.escrow)).resolves.toMatchObject({ codeHash: here.codeHash });
	});

	it("is found by the second run, whoever runs it, which sends nothing", async () => {
		await deployTo(first);
		const before = await transactionsOf(first.client);
		const again = await deployTo(first);
		expect(again).toMatchObject({ outcome: "already-there", escrow: plan.escrow });
		expect(again.transactionHash).toBeUndefined();
		expect(await transactionsOf(first.client)).toBe(before);
	});

	it("with other arguments is another escrow beside it", async () => {
		const other = planDeployment({ closeGracePeriodSeconds: 3_600 });
		await deployTo(first);
		expect(await deployTo(first, { plan: other })).toMatchObject({ outcome: "deployed", escrow: other.escrow });
		await expect(verifyDeployment(first.client, other.escrow)).rejects.toMatchObject({
			code: "DEPLOYMENT_MISMATCH",
			what: "CLOSE_GRACE_PERIOD",
			expected: "900",
			actual: "3600",
		});
		await expect(verifyDeployment(first.client, other.escrow, other)).resolves.toMatchObject({ escrow: other.escrow });
	});

	it("costs about what was estimated, and at most what was said, before anything is sent", async () => {
		const before = await transactionsOf(first.client);
		const found = await preflight({ client: clientOf(first.url), plan });
		expect(await transactionsOf(first.client)).toBe(before);
		const { cost } = found;
		if (cost === undefined) expect.fail("there is something to deploy");
		const { gasUsed = 0n, fee = 0n } = await deployTo(first);
		expect(cost.gas).toBeGreaterThanOrEqual(gasUsed);
		expect(cost.gas).toBeLessThan(gasUsed + gasUsed / 10n);
		expect(cost.max).toBeGreaterThanOrEqual(fee);
		expect(cost.expected).toBeLessThanOrEqual(cost.max);
		expect(cost.factory).toBe(0n);
	});

	it("is sent with a price of gas where blocks have no base fee, and costs what was said", async () => {
		const proxy = await RpcProxy.start(first.url);
		try {
			const latest = await rpc(first.client, "eth_getBlockByNumber", ["latest", false]);
			const { baseFeePerGas: _, ...block } = latest as Record<string, unknown>;
			proxy.lies = (method) => (method === "eth_getBlockByNumber" ? { result: block } : undefined);
			proxy.fails = (method) => /maxPriorityFeePerGas|feeHistory/.test(method);
			const client = clientOf(proxy.url);
			const { account } = await fundedAccount(first.client);
			const { cost } = await preflight({ client, plan });
			const gasPrice = await first.client.getGasPrice();
			expect(cost).toMatchObject({ gasPrice, baseFeePerGas: 0n, maxFeePerGas: gasPrice });
			expect(cost?.expected).toBe((cost?.gas ?? 0n) * gasPrice);
			const { transactionHash: hash = "0x", fee } = await deployTo(first, {
				client,
				wallet: walletOf(proxy.url, account),
			});
			const sent = await first.client.getTransaction({ hash });
			expect(sent).toMatchObject({ type: "legacy", gasPrice });
			expect(fee).toBeLessThanOrEqual(cost?.max ?? 0n);
		} finally {
			await proxy.stop();
		}
	});

	it("stops before anything is sent when the caller does not like what was found", async () => {
		const before = await transactionsOf(first.client);
		const stop = deployTo(first, {
			before: () => {
				throw new Error("too dear");
			},
		});
		await expect(stop).rejects.toThrow("too dear");
		expect(await transactionsOf(first.client)).toBe(before);
	});

	it("waits for the transactions of an earlier run instead of sending a second one", async () => {
		const { account } = await fundedAccount(first.client);
		const wallet = walletOf(first.url, account);
		await rpc(first.client, "evm_setAutomine", [false]);
		try {
			const impatient = { wallet, timeoutMs: 1 };
			const sent = deployTo(first, impatient);
			await expect(sent).rejects.toMatchObject({ code: "DEPLOYMENT_PENDING", hash: expect.stringMatching(/^0x/) });
			await expect(deployTo(first, impatient)).rejects.toMatchObject({ code: "DEPLOYMENT_PENDING" });
			expect(await first.client.getTransactionCount({ ...account, blockTag: "pending" })).toBe(1);
			const patient = deployTo(first, { wallet });
			await rpc(first.client, "evm_mine");
			expect(await patient).toMatchObject({ outcome: "already-there" });
			expect(await first.client.getTransactionCount(account)).toBe(1);
		} finally {
			await rpc(first.client, "evm_setAutomine", [true]);
		}
	});
});

describe("a deployment is refused, with nothing sent,", () => {
	const refused = async (options: Partial<Parameters<typeof deployEscrow>[0]>, error: object) => {
		const before = await transactionsOf(first.client);
		await expect(deployTo(first, options)).rejects.toMatchObject(error);
		expect(await transactionsOf(first.client)).toBe(before);
	};

	it("on another chain than the one that was meant", async () => {
		await refused({ chainId: 8_453 }, { code: "CHAIN_MISMATCH", expected: 8_453, actual: 41_001 });
	});

	it("by a wallet on another chain than the one that was checked", async () => {
		const { account } = await fundedAccount(second.client);
		await refused(
			{ wallet: walletOf(second.url, account) },
			{ code: "CHAIN_MISMATCH", expected: 41_001, actual: 41_002 },
		);
		expect(await second.client.getTransactionCount(account)).toBe(0);
	});

	it("where Permit2 is missing, unless that is allowed", async () => {
		await rpc(first.client, "anvil_setCode", [plan.permit2, "0x"]);
		await refused({}, { code: "PERMIT2_UNUSABLE", reason: "missing", permit2: plan.permit2 });
		const deployed = await deployTo(first, { allowMissingPermit2: true });
		expect(deployed).toMatchObject({ outcome: "deployed", permit2Missing: true });
		expect(await deployTo(first)).toMatchObject({ outcome: "already-there", permit2Missing: true });
	});

	it("where another contract lies in Permit2's place, allowed or not", async () => {
		const wrong: Address = "0x4e59b44847b379578588920ca78fbf26c0b4956c";
		const foreign = { code: "PERMIT2_UNUSABLE", reason: "foreign-code" };
		await refused({ plan: planDeployment({ permit2: wrong }), allowMissingPermit2: true }, foreign);
	});

	it("where another contract lies in the factory's place", async () => {
		await rpc(first.client, "anvil_setCode", ["0x4e59b44847b379578588920ca78fbf26c0b4956c", "0x5f5ff3"]);
		await refused({ installFactory: true }, { code: "FACTORY_UNUSABLE", reason: "foreign-code" });
	});

	it("where other code lies at the escrow's address", async () => {
		await rpc(first.client, "anvil_setCode", [plan.escrow, "0x5f5ff3"]);
		await refused({}, { code: "DEPLOYMENT_MISMATCH", what: "the size of its code" });
	});

	it("without the money for it", async () => {
		const { account } = await fundedAccount(first.client);
		await rpc(first.client, "anvil_setBalance", [account.address, "0x1"]);
		const error = { code: "INSUFFICIENT_FUNDS", address: account.address, balance: 1n };
		await refused({ wallet: walletOf(first.url, account) }, error);
	});
});
