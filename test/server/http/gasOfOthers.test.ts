import type { Address, Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { approveCall } from "../../../src/escrow/calls.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { chargeByPermit2, mintOf, rpc } from "../../support/chargeDrafts.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { createWorld, FUNDS, type PaidServer, PRICE, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
});
afterAll(() => world.stop());

/**
 * A contract wallet that accepts every signature: at once when it is asked by a call that nobody pays for, and after `gas` has
 * been burnt when a contract asks, as Permit2 does in a transaction.
 */
async function wastefulWallet(gas: number): Promise<Address> {
	const limit = gas.toString(16).padStart(8, "0");
	const accepted = `1626ba7e${"0".repeat(56)}`;
	const code: Hex = `0x33156013575a5b5a810363${limit}116006575b7f${accepted}60005260206000f3`;
	const address = privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as Address;
	const { client } = world.chain;
	await rpc(client, "anvil_setCode", [address, code]);
	await rpc(client, "anvil_setBalance", [address, "0x8ac7230489e80000"]);
	await mintOf(world, world.token, address, FUNDS);
	await rpc(client, "anvil_impersonateAccount", [address]);
	const { to, data } = approveCall(world.token, CANONICAL_PERMIT2, FUNDS);
	await rpc(client, "eth_sendTransaction", [{ from: address, to, data, gas: "0x30d40" }]);
	return address;
}

async function payBy(address: Address) {
	const account = privateKeyToAccount(generatePrivateKey());
	return chargeByPermit2(world, { account, address }, await server.challenge("/charge"));
}

describe("gas that others make us spend", () => {
	it("is bounded: a wallet whose signature takes more to check than maxTransactionGas is refused before any", async () => {
		const address = await wastefulWallet(20_000_000);
		const before = await world.chain.client.getBalance({ address: server.payee });
		const draft = await payBy(address);
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "verification-failed");
		expect(await world.chain.client.getBalance({ address: server.payee })).toBe(before);
		expect(await world.balance(address)).toBe(FUNDS);
	});

	it("is spent where a wallet needs what wallets need", async () => {
		const address = await wastefulWallet(500_000);
		expectPaid(await server.pay("/charge", await payBy(address)));
		expect(await world.balance(server.payee)).toBe(PRICE);
	});
});
