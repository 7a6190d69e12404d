/**
 * Credentials of every charge type beyond `authorization` (which `Payer.charge` makes), good or bad, and what payers do on
 * chain for them. Built on `src/voucher` and `src/protocol` alone, like `payer.ts`.
 */
import { randomBytes } from "node:crypto";
import {
	type Address,
	bytesToHex,
	encodeFunctionData,
	type Hex,
	type LocalAccount,
	type TransactionSerializableEIP1559,
} from "viem";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { type Call, transferCall } from "../../src/escrow/calls.ts";
import {
	type Challenge,
	type ChargeRequest,
	decodeRequest,
	formatSource,
	parseChargeRequest,
	parseTimestamp,
	toWire,
} from "../../src/protocol/index.ts";
import {
	CANONICAL_PERMIT2,
	chargeNonce,
	createPermit2Domain,
	type PaymentPermit,
	type PaymentWitnessForm,
	paymentPermitDigest,
	paymentPermitTypedData,
} from "../../src/voucher/index.ts";
import { mined } from "./mined.ts";
import type { PaidServer } from "./paidServer.ts";
import { type Draft, type Payer, sendFrom } from "./payer.ts";
import { rpc } from "./sessionDrafts.ts";
import type { World } from "./world.ts";

export { approvedPayer, approvePermit2, rpc } from "./sessionDrafts.ts";

/** Where a credential is good. */
type Place = Pick<World, "chain">;

/** Who signs it. */
type Signer = Pick<Payer, "account" | "address">;

/** How long a test waits for what is bound to come. */
export const SOON = { timeout: 20_000, interval: 10 } as const;

/** What a challenge asks for. */
export function requestOf(challenge: Challenge): ChargeRequest {
	return parseChargeRequest(decodeRequest(challenge));
}

type Transfers = readonly Readonly<{ to: Address; requestedAmount: bigint }>[];

/** Everything that is signed, or shown, otherwise than the challenge wants it. */
export type PermitOptions = Partial<Omit<PaymentPermit, "witness">> &
	Partial<
		Readonly<{
			witness: Partial<PaymentPermit["witness"]>;
			transferDetails: Transfers;
			/** How the witness's type is spelt. */
			form: PaymentWitnessForm;
			signer: LocalAccount;
			source: string;
		}>
	>;

/** The recipient's part, then one for each split. */
export function transfersFor({ amount, recipient, methodDetails: { splits = [] } }: ChargeRequest): Transfers {
	const primary = splits.reduce((rest, split) => rest - split.amount, amount);
	return [
		{ to: recipient, requestedAmount: primary },
		...splits.map((split) => ({ to: split.recipient, requestedAmount: split.amount })),
	];
}

/** A charge of type `permit2`. */
export async function chargeByPermit2(
	{ chain: { chainId } }: Place,
	payer: Signer,
	challenge: Challenge,
	options: PermitOptions = {},
): Promise<Draft> {
	const request = requestOf(challenge);
	const { transferDetails = transfersFor(request), form = "draft", signer = payer.account } = options;
	const permit: PaymentPermit = {
		permitted:
			options.permitted ??
			transferDetails.map(({ requestedAmount }) => ({ token: request.currency, amount: requestedAmount })),
		spender: options.spender ?? request.recipient,
		nonce: options.nonce ?? BigInt(`0x${randomBytes(31).toString("hex")}`),
		deadline: options.deadline ?? secondsOf(challenge),
		witness: {
			challengeHash: chargeNonce(challenge.id, challenge.realm),
			externalId: request.externalId ?? "",
			...options.witness,
		},
	};
	const { permitted, nonce, deadline, witness } = permit;
	return {
		challenge,
		payload: {
			type: "permit2",
			permit: toWire({ permitted, nonce, deadline }),
			transferDetails: transferDetails.map((one) => toWire(one)),
			witness: { ...witness },
			signature: await signPermit(signer, chainId, permit, form),
		},
		source: options.source ?? formatSource(chainId, payer.address),
	};
}

/** Not by the product's `signPaymentPermit`: it chooses the form itself. */
async function signPermit(
	signer: LocalAccount,
	chainId: number,
	permit: PaymentPermit,
	form: PaymentWitnessForm,
): Promise<Hex> {
	const domain = createPermit2Domain(chainId, CANONICAL_PERMIT2);
	if (form === "eip712") return signer.signTypedData(paymentPermitTypedData(domain, permit) as never);
	if (signer.sign === undefined) throw new Error("this account signs no digests");
	return signer.sign({ hash: bytesToHex(paymentPermitDigest(domain, permit, form)) });
}

export type TransactionOptions = Partial<TransactionSerializableEIP1559> &
	Partial<Readonly<{ signer: LocalAccount; source: string }>>;

/** A charge of type `transaction`. */
export async function chargeByTransaction(
	world: Place,
	payer: Signer,
	challenge: Challenge,
	{ signer = payer.account, source, ...changes }: TransactionOptions = {},
): Promise<Draft> {
	const raw = await signTransfer(world, signer, requestOf(challenge), changes);
	return {
		challenge,
		payload: { type: "transaction", signature: raw },
		...(source !== undefined && { source }),
	};
}

/** The transfer that a challenge asks for, signed by its payer. Not sent. */
export async function signTransfer(
	{ chain: { client, chainId } }: Place,
	signer: LocalAccount,
	{ currency, recipient, amount }: Pick<ChargeRequest, "currency" | "recipient" | "amount">,
	changes: Partial<TransactionSerializableEIP1559> = {},
): Promise<Hex> {
	const [nonce, { maxFeePerGas, maxPriorityFeePerGas }] = await Promise.all([
		client.getTransactionCount({ address: signer.address, blockTag: "pending" }),
		client.estimateFeesPerGas(),
	]);
	return signer.signTransaction({
		type: "eip1559",
		chainId,
		nonce,
		...transferCall(currency, recipient, amount),
		gas: 100_000n,
		maxFeePerGas: 2n * maxFeePerGas,
		maxPriorityFeePerGas,
		...changes,
	});
}

/** A charge of type `hash`. */
export function chargeByHash(
	{ chain: { chainId } }: World,
	payer: Pick<Payer, "address">,
	challenge: Challenge,
	hash: Hex,
	source = formatSource(chainId, payer.address),
): Draft {
	return { challenge, payload: { type: "hash", hash }, source };
}

/** The payer sends what the challenge asks for, past the server; resolves when it is mined. */
export function payOnChain(
	payer: Payer,
	challenge: Challenge,
	changes: Partial<Pick<ChargeRequest, "amount" | "recipient" | "currency">> = {},
): Promise<Hex> {
	const { currency, recipient, amount } = { ...requestOf(challenge), ...changes };
	return payer.sendBlind(transferCall(currency, recipient, amount));
}

/** Another contract than the world has; resolves to its address. */
export async function deployContract({ chain }: World, bytecode: Hex): Promise<Address> {
	const from = chain.account(5).address;
	const hash = (await rpc(chain.client, "eth_sendTransaction", [{ from, data: bytecode }])) as Hex;
	const { contractAddress } = await mined(chain.client, hash);
	if (contractAddress == null) throw new Error("the contract could not be deployed");
	return contractAddress.toLowerCase() as Address;
}

export async function mintOf({ chain }: World, token: Address, to: Address, value: bigint): Promise<void> {
	const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [to, value] });
	await sendFrom(chain, chain.account(5), { to: token, data });
}

/** While `work` runs, nothing is mined unless it calls `mine`. */
export async function withoutMining<T>(
	{ chain: { client } }: World,
	work: (mine: () => Promise<void>) => Promise<T>,
): Promise<T> {
	const mine = async () => void (await rpc(client, "evm_mine"));
	await rpc(client, "evm_setAutomine", [false]);
	try {
		return await work(mine);
	} finally {
		await rpc(client, "evm_setAutomine", [true]);
		await mine();
	}
}

/** Puts a call of the payer's into the pool, ahead of all that pays less for its gas. */
export async function sendAhead(
	{ chain: { client, chainId } }: World,
	payer: Payer,
	{ to, data }: Call,
	nonce?: number,
): Promise<Hex> {
	const fee = 10n ** 11n;
	const serializedTransaction = await payer.account.signTransaction({
		type: "eip1559",
		chainId,
		nonce: nonce ?? (await client.getTransactionCount({ address: payer.address, blockTag: "pending" })),
		to,
		data,
		gas: 200_000n,
		maxFeePerGas: fee,
		maxPriorityFeePerGas: fee,
	});
	return client.sendRawTransaction({ serializedTransaction });
}

/** How many transactions are in the pool. */
export async function pooled({ chain: { client } }: World): Promise<number> {
	const { pending } = (await rpc(client, "txpool_status")) as { pending: Hex };
	return Number(pending);
}

/** The server sees neither receipts nor nonces move: what was sent is still on its way, as far as it knows. */
export function hideFrom(server: PaidServer): void {
	const answers: Readonly<Record<string, unknown>> = {
		eth_getTransactionReceipt: null,
		eth_getTransactionCount: "0x0",
	};
	server.rpc.lies = (method) => (method in answers ? { result: answers[method] } : undefined);
}

/** The chain tells the server of that transaction that it succeeded, and of its events what `change` leaves. */
export async function changeLogs(
	{ chain: { client } }: World,
	server: PaidServer,
	hash: Hex,
	change: (logs: readonly unknown[]) => readonly unknown[],
): Promise<void> {
	const receipt = (await rpc(client, "eth_getTransactionReceipt", [hash])) as { logs: readonly unknown[] };
	const told = { ...receipt, logs: change(receipt.logs) };
	server.rpc.lies = (method) => (method === "eth_getTransactionReceipt" ? { result: told } : undefined);
}

/** The chain tells the server of that transaction that it succeeded, and of nothing that it did. */
export function hideLogs(world: World, server: PaidServer, hash: Hex): Promise<void> {
	return changeLogs(world, server, hash, () => []);
}

function secondsOf({ expires }: Challenge): bigint {
	return BigInt(Math.floor((parseTimestamp(expires ?? "") ?? 0) / 1_000));
}
