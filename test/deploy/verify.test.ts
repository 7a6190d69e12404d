import type { Address, Hex } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deployEscrow, planDeployment, verifyDeployment } from "../../deploy/index.ts";
import type { LocalChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import {
	paymentChannelEscrowImmutables as immutables,
	paymentChannelEscrowRuntime as runtime,
} from "../../src/escrow/generated/escrowRuntime.ts";
import { fundedAccount, QUICK, rpc, startDeployChain, walletOf } from "./support.ts";

const { escrow } = planDeployment();
let chain: LocalChain;
let code: Hex;

beforeAll(async () => {
	chain = await startDeployChain(41_020);
	const { client, url } = chain;
	const { account } = await fundedAccount(client);
	await deployEscrow({ client, wallet: walletOf(url, account), plan: planDeployment(), ...QUICK });
	code = (await client.getCode({ address: escrow })) ?? "0x";
});
afterAll(() => chain?.stop());

/** The code with a word of it, or a byte, replaced. */
function patched(byte: number, hex: string): Hex {
	const from = 2 + 2 * byte;
	return `0x${code.slice(2, from)}${hex}${code.slice(from + hex.length)}`;
}

async function verifyWith(changed: Hex, address: Address = escrow) {
	await rpc(chain.client, "anvil_setCode", [address, changed]);
	try {
		return await verifyDeployment(chain.client, address);
	} finally {
		await rpc(chain.client, "anvil_setCode", [escrow, code]);
	}
}

describe("verification", () => {
	it("takes what was deployed, and an escrow that was deployed without the factory", async () => {
		await expect(verifyDeployment(chain.client, escrow)).resolves.toMatchObject({
			chainId: 41_020,
			escrow,
			closeGracePeriodSeconds: 900,
		});
		const other = await deployContracts(chain, chain.account(0), chain.account(1).address, 1n);
		expect(other.escrow).not.toBe(escrow);
		await expect(verifyDeployment(chain.client, other.escrow)).resolves.toMatchObject({ escrow: other.escrow });
	});

	it("finds one changed byte anywhere outside what the constructor writes", async () => {
		const written = new Set(
			Object.values(immutables).flatMap((starts) =>
				starts.flatMap((start) => Array.from({ length: 32 }, (_, i) => start + i)),
			),
		);
		const last = runtime.length / 2 - 2;
		const bytes = [0, 1, Math.floor(last / 3), Math.floor(last / 2), last - 1, last].filter(
			(byte) => !written.has(byte),
		);
		for (const byte of bytes) {
			const was = Number.parseInt(code.slice(2 + 2 * byte, 4 + 2 * byte), 16);
			const changed = patched(byte, (was ^ 1).toString(16).padStart(2, "0"));
			await expect(verifyWith(changed), `byte ${byte}`).rejects.toMatchObject({
				code: "DEPLOYMENT_MISMATCH",
				what: `byte ${byte} of its code`,
			});
		}
	});

	it("finds code that is longer, shorter, or not there", async () => {
		await expect(verifyWith(`${code}00`)).rejects.toMatchObject({ what: "the size of its code" });
		await expect(verifyWith(code.slice(0, -2) as Hex)).rejects.toMatchObject({ what: "the size of its code" });
		await expect(verifyWith("0x")).rejects.toMatchObject({ code: "DEPLOYMENT_MISMATCH", actual: "missing" });
		await expect(verifyDeployment(chain.client, `0x${"12".repeat(20)}`)).rejects.toMatchObject({ actual: "missing" });
	});

	it("finds arguments that are not the expected ones", async () => {
		const { client } = chain;
		await expect(verifyDeployment(client, escrow, { closeGracePeriodSeconds: 901 })).rejects.toMatchObject({
			what: "CLOSE_GRACE_PERIOD",
			expected: "901",
			actual: "900",
		});
		await expect(verifyDeployment(client, escrow, { permit2: escrow })).rejects.toMatchObject({
			what: "PERMIT2",
			expected: escrow,
		});
	});

	const places = Object.entries(immutables).flatMap(([name, starts]) =>
		starts.map((start, index) => [name, index, start] as const),
	);
	it.each(places)("finds another %s in its place %i", async (_name, _index, start) => {
		const last = start + 31;
		const was = Number.parseInt(code.slice(2 + 2 * last, 4 + 2 * last), 16);
		const changed = patched(last, (was ^ 1).toString(16).padStart(2, "0"));
		await expect(verifyWith(changed)).rejects.toMatchObject({ code: "DEPLOYMENT_MISMATCH" });
	});

	it("takes no immutable on trust that it does not know", async () => {
		const generated = immutables as Record<string, readonly number[]>;
		generated._unknown = [immutables.PERMIT2?.[0] ?? 0];
		try {
			await expect(verifyDeployment(chain.client, escrow)).rejects.toMatchObject({
				code: "DEPLOYMENT_MISMATCH",
				what: "the immutable _unknown",
			});
		} finally {
			delete generated._unknown;
		}
	});

	it("finds that the code of another address or chain was copied", async () => {
		const copy: Address = `0x${"34".repeat(20)}`;
		await expect(verifyWith(code, copy)).rejects.toMatchObject({ code: "DEPLOYMENT_MISMATCH" });
	});
});
