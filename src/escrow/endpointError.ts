import { BaseError } from "viem";

/**
 * An endpoint is left out for a while.
 * `WRONG_CHAIN`: it serves another chain; fix its URL or the chain id.
 * `HEAD_STALE`: it has stopped following the chain, or follows it too slowly; it is tried again later.
 */
export class EndpointError extends BaseError {
	override name = "EndpointError";
	readonly code: "WRONG_CHAIN" | "HEAD_STALE";
	/** Its place among the URLs that were given, from 1. The URL itself may hold a key. */
	readonly endpoint: number;
	constructor(code: EndpointError["code"], endpoint: number, message: string) {
		super(`RPC endpoint ${endpoint} ${message}`);
		this.code = code;
		this.endpoint = endpoint;
	}
}
