import type { Hex } from "viem";

/** What `stopProcess.ts` is started with. */
export type StopSettings = Readonly<{
	/** `script`: settles, stops and has nothing more to do. `server`: until a signal comes. */
	mode: "script" | "server";
	/** How long it may take to stop after a signal, in ms. */
	deadlineMs: number;
	rpcUrl: string;
	chainId: number;
	escrow: string;
	token: string;
	privateKey: Hex;
	folder: string;
}>;
