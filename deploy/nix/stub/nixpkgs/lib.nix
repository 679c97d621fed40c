# The part of nixpkgs' lib that the flake and the module use, written for checking only.
let
  lib = rec {
    genAttrs =
      names: f:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = f name;
        }) names
      );
    mapAttrs = builtins.mapAttrs;
    mapAttrs' =
      f: attrs: builtins.listToAttrs (map (name: f name attrs.${name}) (builtins.attrNames attrs));
    attrValues = builtins.attrValues;
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: attrs: if condition then attrs else { };
    licenses.mit.spdxId = "MIT";
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.name}";

    # file sets: only "does the path exist" is checked
    fileset =
      let
        existing =
          value:
          if builtins.isPath value then
            (
              if builtins.pathExists value then
                { set = [ value ]; }
              else
                throw "fileset: ${toString value} does not exist"
            )
          else if value ? set then
            value
          else
            throw "fileset: neither a path nor a file set";
      in
      {
        union = a: b: { set = (existing a).set ++ (existing b).set; };
        unions = list: { set = builtins.concatMap (value: (existing value).set) list; };
        toSource =
          { root, fileset }:
          builtins.deepSeq (map toString (existing fileset).set) "${builtins.path {
            path = root;
            name = "source";
          }}";
      };

    # modules: an option is remembered, mkIf is an "if"
    mkIf = condition: content: if condition then content else { };
    mkOption =
      option:
      assert option ? description;
      option // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    types =
      genAttrs
        [
          "bool"
          "str"
          "path"
          "package"
        ]
        (name: {
          inherit name;
        })
      // {
        nullOr = type: { name = "null or ${type.name}"; };
        attrsOf = type: { name = "attribute set of ${type.name}"; };
      };
  };
in
lib
