/** A chain with the contracts, a payee, and channels that are open on it, for benches to sell on. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Address, encodeFunctionData, type Hex, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { startChain } from "../../src/cli/demo/chain.ts";
import { fundGas, rpc } from "../../src/cli/demo/chainControl.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { until } from "../../src/cli/demo/until.ts";
import { approveCall, openCall, readChannel } from "../../src/escrow/index.ts";
import { computeChannelId } from "../../src/voucher/index.ts";

/** What goes to the processes that sell and pay there; nothing but data. */
export type Place = Readonly<{
	rpcUrl: string;
	chainId: number;
	token: Address;
	escrow: Address;
	/** The payee's key: of this run alone. */
	payeeKey: Hex;
	/** Makes challenges; of this run alone. */
	secret: string;
	/** Each opened on chain by the payer below, with a signer of its own. */
	channels: readonly OpenChannel[];
}>;

export type OpenChannel = Readonly<{ channelId: Hex; payer: Address; signerKey: Hex; deposit: bigint }>;

export type Stage = Readonly<{
	place: Place;
	/** A folder for stores; deleted with the stage. */
	folder: string;
	stop(): Promise<void>;
}>;

/** How many transactions are sent before their receipts are looked for. */
const AT_A_TIME = 50;

/**
 * Sets a stage with `channels` open channels of `deposit` base units each.
 *
 * @example
 * const stage = await setStage({ channels: 200, deposit: 10n ** 12n });
 * await stage.stop();
 */
export async function setStage({
	channels: count,
	deposit,
}: Readonly<{ channels: number; deposit: bigint }>): Promise<Stage> {
	const folder = await mkdtemp(join(tmpdir(), "sluice-bench-"));
	const chain = await startChain();
	const stop = async () => {
		await chain.stop();
		await rm(folder, { recursive: true, force: true });
	};
	try {
		const { client, chainId } = chain;
		const deployer = chain.account(0);
		const { token, escrow } = await deployContracts(chain, deployer, deployer.address, 1n);
		const payeeKey = generatePrivateKey();
		const payee = privateKeyToAccount(payeeKey).address.toLowerCase() as Address;
		await fundGas(client, payee);
		// The node has the payer's key: it signs for it.
		const payer = chain.account(1).address.toLowerCase() as Address;
		const send = ({ to, data }: Readonly<{ to: Address | null; data: Hex }>) =>
			rpc(client, "eth_sendTransaction", [{ from: payer, to, data }]);
		const total = deposit * BigInt(count);
		await send({
			to: token,
			data: encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [payer, total] }),
		});
		await send(approveCall(token, escrow, total));
		const channels: OpenChannel[] = [];
		for (let at = 0; at < count; at++) {
			const signerKey = generatePrivateKey();
			const authorizedSigner = privateKeyToAccount(signerKey).address.toLowerCase() as Address;
			const salt = toHex(randomBytes(32));
			await send(openCall(escrow, { payee, token, deposit, salt, authorizedSigner }));
			const channelId = computeChannelId({ chainId, escrow, payer, payee, token, salt, authorizedSigner });
			channels.push({ channelId, payer, signerKey, deposit });
			if ((at + 1) % AT_A_TIME === 0 || at + 1 === count)
				await until("channels are open", async () => (await readChannel(client, escrow, channelId)) !== undefined);
		}
		const secret = randomBytes(32).toString("base64url");
		return { place: { rpcUrl: chain.url, chainId, token, escrow, payeeKey, secret, channels }, folder, stop };
	} catch (error) {
		await stop();
		throw error;
	}
}
