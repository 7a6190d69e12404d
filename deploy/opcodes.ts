import type { Hex, PublicClient } from "viem";
import { isNodeFault } from "./rpc.ts";

/**
 * Creation codes that each execute one instruction and return the word 42: what the escrow's code, compiled for Cancun,
 * needs of a chain beyond the Ethereum of 2022. The instructions' results are used, so that one that does nothing fails.
 */
const PROBES = {
	// PUSH1 42 PUSH0 MSTORE PUSH1 32 PUSH1 0 RETURN
	PUSH0: "0x602a5f5260206000f3",
	// PUSH1 42 PUSH1 0 MSTORE · PUSH1 32 PUSH1 0 PUSH1 32 MCOPY · PUSH1 32 PUSH1 32 RETURN
	MCOPY: "0x602a6000526020600060205e60206020f3",
	// PUSH1 7 PUSH1 1 TSTORE · PUSH1 42 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN
	TSTORE: "0x600760015d602a60005260206000f3",
	// PUSH1 1 TLOAD (0) PUSH1 42 ADD PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN
	TLOAD: "0x60015c602a0160005260206000f3",
} as const satisfies Record<string, Hex>;

/** The same without any new instruction: shows whether the node runs creation code in a call at all. */
const CONTROL: Hex = "0x602a60005260206000f3";

const MARKER: Hex = `0x${"2a".padStart(64, "0")}`;

/** An instruction that the escrow needs and that not every chain has. */
export type NeededOpcode = keyof typeof PROBES;

/** The chain lacks instructions that the escrow's code needs: deployed there, it would not work. */
export class OpcodesMissingError extends Error {
	override readonly name = "OpcodesMissingError";
	readonly code = "OPCODES_MISSING";
	readonly chainId: number;
	/** Empty when the node does not run creation code in a call, so that nothing can be known. */
	readonly opcodes: readonly NeededOpcode[];
	constructor(chainId: number, opcodes: readonly NeededOpcode[]) {
		super(
			opcodes.length === 0
				? `the node of chain ${chainId} does not run creation code in eth_call as Ethereum does, so the escrow can't be trusted to work there; try another RPC provider, or use another chain`
				: `chain ${chainId} does not have ${opcodes.join(", ")}, which the escrow needs (Ethereum's Cancun); use another chain, or wait for its upgrade`,
		);
		this.chainId = chainId;
		this.opcodes = opcodes;
	}
}

/**
 * Runs each instruction that the escrow needs in an `eth_call` of its own. Nothing is sent.
 *
 * @throws {OpcodesMissingError} naming those that are missing; viem's errors when the node can't be asked
 * @example
 * ```ts
 * await assertOpcodes(client, await client.getChainId());
 * ```
 */
export async function assertOpcodes(client: PublicClient, chainId: number): Promise<void> {
	if (!(await runs(client, CONTROL))) throw new OpcodesMissingError(chainId, []);
	const names = Object.keys(PROBES) as NeededOpcode[];
	const ran = await Promise.all(names.map((name) => runs(client, PROBES[name])));
	const missing = names.filter((_, index) => !ran[index]);
	if (missing.length > 0) throw new OpcodesMissingError(chainId, missing);
}

async function runs(client: PublicClient, data: Hex): Promise<boolean> {
	try {
		const answer = await client.request({ method: "eth_call", params: [{ data }, "latest"] });
		return answer === MARKER;
	} catch (error) {
		if (isNodeFault(error)) throw error;
		return false;
	}
}
