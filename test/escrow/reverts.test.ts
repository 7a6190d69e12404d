import { BaseError, createPublicClient, encodeErrorResult, type Hex, HttpRequestError, http } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCall } from "../../src/escrow/calls.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { closeCall } from "../../src/escrow/payeeCalls.ts";
import { readChannel } from "../../src/escrow/reads.ts";
import { revertReason } from "../../src/escrow/reverts.ts";
import { createStage, rpc, type Stage, transferCall } from "./support.ts";

const CHANNEL: Hex = `0x${"77".repeat(32)}`;

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage?.chain.stop());

/** What the chain throws at somebody who has nothing. */
const refusal = ({ to, data }: Readonly<{ to: Hex | null; data: Hex }>) =>
	stage.chain.client.estimateGas({ account: stage.chain.account(9), to, data }).then(
		() => {
			throw new Error("the call went through");
		},
		(error: unknown) => error,
	);

/** A contract that reverts every call with `data`. */
async function contractThatReverts(address: Hex, data: Hex): Promise<Hex> {
	const size = ((data.length - 2) / 2).toString(16).padStart(2, "0");
	// PUSH1 size PUSH1 12 PUSH0 CODECOPY PUSH1 size PUSH0 REVERT, then the data at 12.
	await rpc(stage.chain.client, "anvil_setCode", [address, `0x60${size}600b5f3960${size}5ffd00${data.slice(2)}`]);
	return address;
}

const ADDRESS: Hex = `0x${"a5".repeat(20)}`;
const PANIC = encodeErrorResult({
	abi: [{ type: "error", name: "Panic", inputs: [{ name: "code", type: "uint256" }] }],
	args: [0x11n],
});
const STRING = encodeErrorResult({
	abi: [{ type: "error", name: "Error", inputs: [{ name: "message", type: "string" }] }],
	args: ["FiatToken: blocked"],
});

describe("revertReason", () => {
	it("names the escrow's error", async () => {
		expect(revertReason(await refusal(closeCall(stage.escrow, CHANNEL, 1n, `0x${"00".repeat(65)}`)))).toBe(
			"ChannelNotFound",
		);
	});

	it("names the token's error, also when it comes through the escrow", async () => {
		expect(revertReason(await refusal(transferCall(stage.token, ADDRESS, 1n)))).toBe("ERC20InsufficientBalance");
		const channel = { payee: ADDRESS, token: stage.token, deposit: 5n, salt: CHANNEL, authorizedSigner: ADDRESS };
		expect(revertReason(await refusal(openCall(stage.escrow, channel)))).toBe("ERC20InsufficientAllowance");
	});

	it("finds the reason in a failed read as well", async () => {
		const { client } = stage.chain;
		const error = await client
			.simulateContract({
				account: ADDRESS,
				address: stage.escrow,
				abi: paymentChannelEscrowAbi,
				functionName: "withdraw",
				args: [CHANNEL],
			})
			.catch((thrown: unknown) => thrown);
		expect(revertReason(error)).toBe("ChannelNotFound");
	});

	it("gives a revert string as it is", async () => {
		const to = await contractThatReverts(ADDRESS, STRING);
		expect(revertReason(await refusal({ to, data: "0x12345678" }))).toBe("FiatToken: blocked");
	});

	it("names a panic", async () => {
		const to = await contractThatReverts(ADDRESS, PANIC);
		expect(revertReason(await refusal({ to, data: "0x12345678" }))).toBe("Panic");
	});

	it("says `unknown` of an error that nobody declared, of a damaged one and of a revert without data", async () => {
		for (const data of ["0xdeadbeef", `${PANIC.slice(0, 20)}`, "0x"] as const) {
			const to = await contractThatReverts(ADDRESS, data as Hex);
			expect(revertReason(await refusal({ to, data: "0x12345678" })), data).toBe("unknown");
		}
	});

	it("has nothing to say of what is no revert", async () => {
		const url = "http://127.0.0.1:1/";
		const unreachable = createPublicClient({ transport: http(url, { retryCount: 0 }) });
		const offline = await readChannel(unreachable, stage.escrow, CHANNEL).catch((thrown: unknown) => thrown);
		expect(offline).toBeInstanceOf(BaseError);
		expect(revertReason(offline)).toBeUndefined();
		expect(revertReason(new HttpRequestError({ url, status: 503 }))).toBeUndefined();
		expect(revertReason(new Error("execution reverted"))).toBeUndefined();
		expect(revertReason(undefined)).toBeUndefined();
	});
});
