import { type BaseError, HttpRequestError, RpcError, TimeoutError } from "viem";

/** The node failed, which says nothing about the contract. Internal. */
export function isNodeFault(error: BaseError): boolean {
	return (
		error.walk(
			(cause) => cause instanceof HttpRequestError || cause instanceof TimeoutError || cause instanceof RpcError,
		) !== null
	);
}
