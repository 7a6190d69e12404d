import { getContractAddress, recoverTransactionAddress } from "viem";
import { describe, expect, it, test } from "vitest";
import { FACTORY_ADDRESS } from "../../deploy/factory.ts";
import {
	CANONICAL_PERMIT2,
	ESCROW_SALT,
	FACTORY_DEPLOYER,
	FACTORY_TRANSACTION,
	permit2DomainSeparator,
	planDeployment,
} from "../../deploy/index.ts";

describe("the plan of a deployment", () => {
	it("is the same every time, and needs no chain", () => {
		expect(planDeployment()).toEqual(planDeployment());
		expect(planDeployment({ closeGracePeriodSeconds: 900, permit2: CANONICAL_PERMIT2 })).toEqual(planDeployment());
		expect(planDeployment().escrow).toMatch(/^0x[0-9a-f]{40}$/);
	});

	it("calls the factory with the salt and the creation code", () => {
		const { data, initCode, salt } = planDeployment();
		expect(salt).toBe(ESCROW_SALT);
		expect(data).toBe(ESCROW_SALT + initCode.slice(2));
	});

	it("has another address for other arguments, not for another case of letters", () => {
		const { escrow } = planDeployment();
		expect(planDeployment({ closeGracePeriodSeconds: 901 }).escrow).not.toBe(escrow);
		expect(planDeployment({ permit2: FACTORY_DEPLOYER }).escrow).not.toBe(escrow);
		const upper = `0x${CANONICAL_PERMIT2.slice(2).toUpperCase()}` as const;
		expect(planDeployment({ permit2: upper }).escrow).toBe(escrow);
	});

	test.each([
		[{ closeGracePeriodSeconds: 599 }],
		[{ closeGracePeriodSeconds: 900.5 }],
		[{ closeGracePeriodSeconds: Number.NaN }],
		[{ closeGracePeriodSeconds: 2 ** 60 }],
		[{ permit2: "0x12" as const }],
		[{ permit2: `0x${"0".repeat(40)}` as const }],
		[{ closeGracePeriodSeconds: 7 * 86_400 + 1 }],
	])("is refused for %j, which the contract could not take or nobody means", (args) => {
		expect(() => planDeployment(args)).toThrow(expect.objectContaining({ code: "ESCROW_ARGUMENTS" }));
	});

	it("takes a grace period of 7 days; of a longer one it asks whether it is in milliseconds", () => {
		expect(planDeployment({ closeGracePeriodSeconds: 7 * 86_400 })).toMatchObject({
			closeGracePeriodSeconds: 604_800,
		});
		expect(() => planDeployment({ closeGracePeriodSeconds: 3_600_000 })).toThrow(/milliseconds/);
	});
});

test("Permit2's domain separator on Ethereum is the one that is known", () => {
	const known = "0x866a5aba21966af95d6c7ab78eb2b2fc913915c28be3b9aa07cc04ff903e3f28";
	expect(permit2DomainSeparator(CANONICAL_PERMIT2, 1)).toBe(known);
});

test("the factory's presigned transaction is its deployer's first, which creates the factory's address", async () => {
	const signer = await recoverTransactionAddress({ serializedTransaction: FACTORY_TRANSACTION as never });
	expect(signer.toLowerCase()).toBe(FACTORY_DEPLOYER);
	expect(getContractAddress({ from: FACTORY_DEPLOYER, nonce: 0n }).toLowerCase()).toBe(FACTORY_ADDRESS);
});
