import { AsyncLocalStorage } from "node:async_hooks";
import type { RequestId } from "@modelcontextprotocol/sdk/types.js";
import type { Payment } from "../admission.ts";
import type { Slot } from "./slots.ts";

/** The payment that a handler of the SDK works for, and the id by which it knows its request. */
export type Paying = Readonly<{
	requestId: RequestId;
	payment: Payment;
	/** Aborts when nobody waits for the result any more. */
	signal: AbortSignal;
	slot: Slot;
}>;

export const paying = new AsyncLocalStorage<Paying>();
