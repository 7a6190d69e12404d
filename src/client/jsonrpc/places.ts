import type { JsonObject } from "../../protocol/index.ts";

/** Where a JSON-RPC server is: its URL, or a name for one that is reached otherwise, by a pipe say. */
export type RpcPlace = Readonly<{ url: string | URL; name?: never }> | Readonly<{ name: string; url?: never }>;

/** What is called. */
export type RpcTarget = Readonly<{ method: string; params?: JsonObject | readonly unknown[] }>;

/** A server's name can't stand in a policy, or an operation's not in an address. */
export class RpcPlaceError extends Error {
	override readonly name = "RpcPlaceError";
	readonly code = "RPC_PLACE";
}

/** Between a server's own address and what stands for its operations. No resource is to be there. */
const MARK = "-";

/**
 * The address that stands for a server, and under which its operations are: a policy allows its host, channels belong to its
 * origin. A name `web-search` is the host `web-search.localhost`, which is nobody else's: nothing is ever sent there.
 *
 * @throws RpcPlaceError
 */
export function baseOf({ url, name }: RpcPlace): string {
	if (url === undefined) {
		if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
			throw new RpcPlaceError(
				"give the server a name of lowercase letters, digits and hyphens: its host in the policy",
			);
		return `https://${name}.localhost/${MARK}/`;
	}
	const { origin, pathname } = new URL(url);
	if (origin === "null") throw new RpcPlaceError("give the URL of the server, or a name: its host in the policy");
	return `${origin.replace(/^ws/, "http")}${pathname.replace(/\/+$/, "")}/${MARK}/`;
}

/** What distinguishes an operation among those of its method: a tool's name, a resource's URI. It is enough to ask for its price. */
const NAMED_BY: Readonly<Record<string, "name" | "uri">> = {
	"tools/call": "name",
	"prompts/get": "name",
	"resources/read": "uri",
};

/**
 * The address of an operation.
 *
 * @throws RpcPlaceError for a name that no address can have
 */
export function addressOf(base: string, { method, params }: RpcTarget): string {
	const member = NAMED_BY[method];
	const name = member !== undefined && params !== undefined && member in params ? (params as JsonObject)[member] : "";
	const address = `${base}${member === undefined ? segmentOf(method) : `${method}/${segmentOf(String(name))}`}`;
	// What leaves the base is somebody else's, and would be asked for by HTTP.
	if (new URL(address).href !== address)
		throw new RpcPlaceError("the name of this operation can't stand in an address");
	return address;
}

/** Before a name that an address would take for a place above it. No encoded name begins with it. */
const DOTS = "=";

function segmentOf(name: string): string {
	return name === "." || name === ".." ? `${DOTS}${name}` : encodeWellFormed(name);
}

function nameOf(segment: string): string {
	return decodeURIComponent(segment.startsWith(DOTS) ? segment.slice(DOTS.length) : segment);
}

function encodeWellFormed(name: string): string {
	try {
		return encodeURIComponent(name);
	} catch {
		throw new RpcPlaceError("the name of this operation is not well-formed Unicode");
	}
}

/** The operation of an address, without arguments: as much of a call as its payment is about. */
export function targetOf(base: string, url: string): RpcTarget {
	const path = url.slice(base.length);
	for (const [method, member] of Object.entries(NAMED_BY)) {
		const start = `${method}/`;
		if (path.startsWith(start)) return { method, params: { [member]: nameOf(path.slice(start.length)) } };
	}
	return { method: nameOf(path) };
}
