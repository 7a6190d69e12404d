import { expect, it } from "vitest";
import { type Way, Ways } from "../../src/client/ways.ts";

const way = (): Way => async () => new Response();

it("of the ways that an address fits the newest counts, and when that has ended the one before it", () => {
	const ways = new Ways();
	const [all, tools, again, other] = [way(), way(), way(), way()];
	ways.add("mcp://server/", all);
	const endTools = ways.add("mcp://server/tools/", tools);
	expect(ways.to("mcp://server/tools/quote")).toBe(tools);
	expect(ways.to("mcp://server/prompts/quote")).toBe(all);
	const endAgain = ways.add("mcp://server/", again);
	ways.add("mcp://other/", other);
	expect(ways.to("mcp://server/tools/quote")).toBe(again);
	endAgain();
	endAgain();
	expect(ways.to("mcp://server/tools/quote")).toBe(tools);
	expect(ways.to("mcp://server/prompts/quote")).toBe(all);
	endTools();
	expect(ways.to("mcp://server/tools/quote")).toBe(all);
	expect(ways.to("https://server/tools/quote")).toBeUndefined();
});

it("one way for two addresses ends for each by itself", () => {
	const ways = new Ways();
	const one = way();
	const end = ways.add("a:", one);
	ways.add("a:", one);
	end();
	end();
	expect(ways.to("a:b")).toBe(one);
});
