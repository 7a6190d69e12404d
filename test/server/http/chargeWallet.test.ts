import { type Address, encodeDeployData, encodeFunctionData, type Hex, type LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { approveCall, type Call, transferCall } from "../../../src/escrow/calls.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { chargeByHash, chargeByPermit2, deployContract, mintOf } from "../../support/chargeDrafts.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { smartAccountAbi, smartAccountBytecode } from "../../support/generated/smartAccount.ts";
import { useWorld } from "../../support/useWorld.ts";
import { FUNDS, type PaidServer, type Payer, PRICE, type Routes, standardRoutes } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
/** Sends what has to be sent: a relayer, or a bundler. */
let relayer: Payer;
/** Signs for the wallet. */
let owner: LocalAccount;
/** A contract account with tokens, which has approved Permit2. */
let wallet: Readonly<{ account: LocalAccount; address: Address }>;
const split = privateKeyToAccount(generatePrivateKey()).address;

const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const hashed = { price: PRICE, intent: "charge" as const, credentialTypes: ["hash" as const] };
	app.get("/hash", { config: { payment: hashed } }, kit.handler("/hash"));
	const splits = [{ recipient: split, amount: 10n }];
	app.get("/split", { config: { payment: { price: PRICE, intent: "charge", splits } } }, kit.handler("/split"));
};

beforeEach(async () => {
	relayer = await world.payer({ gas: true });
	owner = privateKeyToAccount(generatePrivateKey());
	const address = await deployAccount(owner.address);
	wallet = { account: owner, address };
	await mintOf(world, world.token, address, FUNDS);
	await relayer.sendBlind(through(address, approveCall(world.token, CANONICAL_PERMIT2, FUNDS)));
	server = await world.serve({ routes });
});

function deployAccount(of: Address): Promise<Address> {
	return deployContract(world, encodeDeployData({ abi: smartAccountAbi, bytecode: smartAccountBytecode, args: [of] }));
}

/** A call that an account makes when somebody tells it to. */
function through(account: Address, { to, data }: Call): Readonly<{ to: Address; data: Hex }> {
	if (to === null) throw new Error("accounts create nothing");
	const args = [[{ to, data }]] as const;
	return { to: account, data: encodeFunctionData({ abi: smartAccountAbi, functionName: "execute", args }) };
}

describe("a contract wallet (ERC-1271, ERC-4337)", () => {
	it.each(["draft", "eip712"] as const)("pays by permit2 with its key's signature, spelt as in %s", async (form) => {
		const draft = await chargeByPermit2(world, wallet, await server.challenge("/charge"), { form });
		expectPaid(await server.pay("/charge", draft));
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "invalid-challenge");
		expect(await world.balance(wallet.address)).toBe(FUNDS - PRICE);
		expect(await world.balance(server.payee)).toBe(PRICE);
	});

	it("pays splits by permit2", async () => {
		expectPaid(await server.pay("/split", await chargeByPermit2(world, wallet, await server.challenge("/split"))));
		expect(await world.balance(server.payee)).toBe(PRICE - 10n);
	});

	it("is not signed for by another key: refused before any gas", async () => {
		const signer = privateKeyToAccount(generatePrivateKey());
		const draft = await chargeByPermit2(world, wallet, await server.challenge("/charge"), { signer });
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "verification-failed");
		expect(await world.balance(wallet.address)).toBe(FUNDS);
	});

	it("pays by hash of a transaction that went through an entry point, whatever its `to`", async () => {
		const entryPoint = await deployAccount(owner.address);
		const challenge = await server.challenge("/hash");
		const transfer = transferCall(world.token, server.payee, PRICE);
		const hash = await relayer.sendBlind(through(entryPoint, through(wallet.address, transfer)));
		// Who sent the transaction, and to whom, has not paid.
		for (const other of [relayer.address, entryPoint]) {
			const draft = chargeByHash(world, { address: other }, challenge, hash);
			expectRefusal(await unchanged(server, [], () => server.pay("/hash", draft)), "verification-failed");
		}
		expectPaid(await server.pay("/hash", chargeByHash(world, wallet, challenge, hash)));
	});
});
